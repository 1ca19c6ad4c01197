"""Record demonstrations of the twin's scripted expert (graph: resfit_bringup/graph.py).

    ros2 launch resfit_bringup record.launch.py
    ros2 launch resfit_bringup record.launch.py episodes:=30
    ros2 launch resfit_bringup record.launch.py --show-args

Settings, last wins: package default, config/robot, config/task, params_file:=, launch argument.
"""

from launch import LaunchDescription
from resfit_bringup.launch_front import describe


def generate_launch_description() -> LaunchDescription:
    """Return the actions of the job `record`."""
    return describe("record")
