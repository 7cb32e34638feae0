"""The simulated arm: a PyBullet world, the face of an arm's driver over it, and a Gymnasium environment.

Importing this package registers `mbrl_sim/Reach-v0` with Gymnasium. Only `arm_simulator_node` knows ROS.
"""

import gymnasium

gymnasium.register(id='mbrl_sim/Reach-v0', entry_point='mbrl_sim.reach_env:ReachEnv', max_episode_steps=100)
