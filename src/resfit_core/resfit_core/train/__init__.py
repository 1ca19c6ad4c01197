"""The front end without ROS: residual RL on any Gymnasium environment (`docs/library.md`)."""
