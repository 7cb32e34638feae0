"""Profiles of robots and drivers, read from YAML; `robots.kinematics` has the kinematics of a profile's URDF.

Reading a profile does not import torch, because nodes that only move data run without it.
"""

from mbrl_ros.robots.profile import DriverProfile, GripperProfile, RobotProfile, WorkspaceProfile, load_driver, load_robot

__all__ = ['DriverProfile', 'GripperProfile', 'RobotProfile', 'WorkspaceProfile', 'load_driver', 'load_robot']
