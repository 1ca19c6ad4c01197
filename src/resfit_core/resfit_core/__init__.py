"""Residual off-policy RL without ROS.

Imports nothing, so that a numpy-only user (the joint driver) never pays for torch.
"""
