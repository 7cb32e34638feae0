"""Teleoperation from a terminal: keys in, actions out, and what the person is shown. Knows no ROS."""

from mbrl_ros.teleop.pilot import KeyboardPilot, PilotConfig

__all__ = ['KeyboardPilot', 'PilotConfig']
