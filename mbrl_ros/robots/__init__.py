"""Profiles of robots and drivers, read from YAML; `robots.kinematics` has the kinematics of a profile's URDF.

Reading a profile does not import torch, because nodes that only move data run without it.
"""
