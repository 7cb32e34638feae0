"""The simulated arm: a PyBullet world, a driver's command interface to it, and Gymnasium environments.

Importing this package registers `mbrl_sim/Reach-v0`, `mbrl_sim/Push-v0`, `mbrl_sim/Lift-v0`, `mbrl_sim/PickPlace-v0` and
`mbrl_sim/ReachGrid-v0` with Gymnasium. The tasks over the table take control rate and episode length from `config/tasks`. Only
`arm_simulator_node` and `wire` know ROS.
"""

import gymnasium

from mbrl_ros.config import load_yaml
from mbrl_ros.resources import config_file

#: Names of the environments by task.
ENVIRONMENTS = {'reach': 'mbrl_sim/Reach-v0', 'push': 'mbrl_sim/Push-v0', 'lift': 'mbrl_sim/Lift-v0',
                'pick_place': 'mbrl_sim/PickPlace-v0'}
_REACH_STEPS = 100


def _register(task: str, name: str) -> None:
    learned = load_yaml(config_file('tasks', task)) if task != 'reach' else {'max_episode_steps': _REACH_STEPS}
    rate = {'control_hz': learned['control_rate_hz']} if 'control_rate_hz' in learned else {}
    gymnasium.register(name, 'mbrl_sim.task_env:TaskEnv', max_episode_steps=learned['max_episode_steps'],
                       kwargs={'task': task, **rate})


gymnasium.register('mbrl_sim/ReachGrid-v0', 'mbrl_sim.reach_grid:ReachGrid', max_episode_steps=500)
for _task, _name in ENVIRONMENTS.items():
    _register(_task, _name)
