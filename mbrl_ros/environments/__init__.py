"""Learning and planning in any Gymnasium environment.

Separate from `tasks`, whose rewards and frames are the arm's. Here the observation is the environment's own, and the reward is
learned or given as a function. Importing this package registers the mazes of `environments.mazes` with Gymnasium.
"""

import gymnasium

_MAZES = {
    'mbrl_ros/DynaMaze-v0': {'maze': 'dyna'},
    'mbrl_ros/BlockingMaze-v0': {'maze': 'right_open', 'changed': 'left_open', 'change_at': 1000},
    'mbrl_ros/ShortcutMaze-v0': {'maze': 'left_open', 'changed': 'both_open', 'change_at': 3000},
}
for _name, _settings in _MAZES.items():
    gymnasium.register(_name, 'mbrl_ros.environments.mazes:Maze', max_episode_steps=10_000, kwargs=_settings)
