"""Indices of an observation of `ToolSpace`: a gripper over a table, and one body.

Positions, then velocities, nine each: tool x, y, z and yaw, the opening, body x, y, z and yaw.
"""

#: Indices of positions; velocities are `SIZE` further on.
TOOL, TOOL_YAW, OPENING, BODY, BODY_YAW = slice(0, 3), 3, 4, slice(5, 8), 8
SIZE = 9
TOOL_VELOCITY, BODY_VELOCITY = slice(SIZE, SIZE + 3), slice(SIZE + 5, SIZE + 8)
#: In `JointToolSpace` the tool's tilt follows, then the joints.
TILT = slice(2 * SIZE, 2 * SIZE + 2)
#: Entries of an action: rotation about z in a twist, and the opening, always the last.
TWIST_YAW, GRIP = 3, -1
