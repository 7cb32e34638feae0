"""Where things stand in an observation of `ToolSpace`: a gripper over a table, and one body.

Positions, then velocities, nine each: tool x, y, z and yaw, the opening, body x, y, z and yaw.
"""

#: Entries of the positions; those of the velocities are `SIZE` further on.
TOOL, TOOL_YAW, OPENING, BODY, BODY_YAW = slice(0, 3), 3, 4, slice(5, 8), 8
SIZE = 9
TOOL_VELOCITY, BODY_VELOCITY = slice(SIZE, SIZE + 3), slice(SIZE + 5, SIZE + 8)
#: Entries of an action: the tool's twist along x, y, z and about z, and the opening.
TWIST_YAW, GRIP = 3, 4
