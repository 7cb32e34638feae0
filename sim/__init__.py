"""The simulated arm: a PyBullet world, the face of an arm's driver over it, and Gymnasium environments.

Importing this package registers `mbrl_sim/Reach-v0`, `mbrl_sim/Push-v0`, `mbrl_sim/Lift-v0` and `mbrl_sim/PickPlace-v0` with
Gymnasium. Only `arm_simulator_node` knows ROS.
"""

import gymnasium

#: Environments by task, and control steps after which an episode of each ends.
ENVIRONMENTS = {'reach': ('mbrl_sim/Reach-v0', 100), 'push': ('mbrl_sim/Push-v0', 120), 'lift': ('mbrl_sim/Lift-v0', 100),
                'pick_place': ('mbrl_sim/PickPlace-v0', 120)}

for _task, (_id, _steps) in ENVIRONMENTS.items():
    gymnasium.register(_id, 'mbrl_sim.task_env:TaskEnv', max_episode_steps=_steps, kwargs={'task': _task})
