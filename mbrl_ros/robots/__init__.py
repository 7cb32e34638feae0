"""Robots and drivers as data: profiles read from YAML; the kinematics of a profile's URDF are in `robots.kinematics`.

Reading a profile does not import torch, which the nodes that only move data do without.
"""

from mbrl_ros.robots.profile import DriverProfile, GripperProfile, RobotProfile, WorkspaceProfile, load_driver, load_robot

__all__ = ['DriverProfile', 'GripperProfile', 'RobotProfile', 'WorkspaceProfile', 'load_driver', 'load_robot']
