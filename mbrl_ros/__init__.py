"""Model-based reinforcement learning as a live ROS 2 control stack.

Data flows one way through the folders: sensors -> `estimation` -> `experience` -> `training` -> `planning` -> command.
`robots` has profiles and kinematics, `spaces` observations and actions, `tasks` rewards and goals, `models` dynamics, `agents`
algorithms and demonstrators, `control` the tick and its safety, `runs` episodes and evaluations. These are pure: numpy and
torch, time as an argument, no ROS. `ros` converts, `nodes` wires, `benchmarks` measures, `cli` is the command line.

Shape letters: `B` batch, `N` population, `K` elites, `P` particles, `E` ensemble members, `H` horizon,
`T` episode length, `O` obs, `A` action, `J` joints, `S` entries of the state. `E` is always the leading axis.
SI units and radians, right-handed frames (REP 103). Stamps are integer nanoseconds.
"""

__version__ = '0.1.0'
