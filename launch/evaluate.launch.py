"""Run base and residual of a training on evaluation seeds (graph: resfit_bringup/graph.py).

    ros2 launch resfit_bringup evaluate.launch.py
    ros2 launch resfit_bringup evaluate.launch.py evaluate_episodes:=20
    ros2 launch resfit_bringup evaluate.launch.py --show-args

Settings, last wins: package default, config/robot, config/task, params_file:=, launch argument.
"""

from launch import LaunchDescription
from resfit_bringup.launch_front import describe


def generate_launch_description() -> LaunchDescription:
    """Return the actions of the job `evaluate`."""
    return describe("evaluate")
