"""The learner alone, on another machine than the robot (docs/network.md).

    robot:        ros2 launch resfit_bringup train.launch.py learner:=external run_dir:=runs/cup
    workstation:  ros2 launch resfit_bringup learner.launch.py run_dir:=runs/cup

Both need the same robot, task, base and learning settings; nothing else is shared but the network.
"""

from launch import LaunchDescription
from resfit_bringup.launch_front import describe


def generate_launch_description() -> LaunchDescription:
    """Return the actions of the job `learner`."""
    return describe("learner")
