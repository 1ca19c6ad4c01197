"""Train a residual on a frozen base policy (its graph: resfit_bringup/graph.py).

    ros2 launch resfit_bringup train.launch.py
    ros2 launch resfit_bringup train.launch.py episodes:=100 seed:=1
    ros2 launch resfit_bringup train.launch.py run_dir:=runs/latest      # continue a run
    ros2 launch resfit_bringup train.launch.py --show-args

Settings, last wins: package default, config/robot, config/task, params_file:=, launch argument.
"""

from launch import LaunchDescription
from resfit_bringup.launch_front import describe


def generate_launch_description() -> LaunchDescription:
    """Return the actions of the job `train`."""
    return describe("train")
