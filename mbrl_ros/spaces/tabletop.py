"""Where things stand in an observation of `ToolSpace`: a gripper over a table, and one body.

Positions, then velocities, nine each: tool x, y, z and yaw, the opening, body x, y, z and yaw.
"""

#: Entries of the positions; those of the velocities are `SIZE` further on.
TOOL, TOOL_YAW, OPENING, BODY, BODY_YAW = slice(0, 3), 3, 4, slice(5, 8), 8
SIZE = 9
TOOL_VELOCITY, BODY_VELOCITY = slice(SIZE, SIZE + 3), slice(SIZE + 5, SIZE + 8)
#: Where joint velocities are the action, the tool's tilt comes after all that, and after it the joints.
TILT = slice(2 * SIZE, 2 * SIZE + 2)
#: Entries of an action: of the tool's twist the one about z, and the opening, which comes last whatever the others are.
TWIST_YAW, GRIP = 3, -1
