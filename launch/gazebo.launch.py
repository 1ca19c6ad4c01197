"""Train on a robot in Gazebo, through ros_gz_bridge (its graph: resfit_bringup/graph.py).

    ros2 launch resfit_bringup gazebo.launch.py base:=resfit_sim.reach_base:ReachBase demos:=...
    ros2 launch resfit_bringup gazebo.launch.py robot:=my.yaml task:=my_task.yaml bridge:=gz.yaml
    ros2 launch resfit_bringup gazebo.launch.py --show-args

Gazebo itself is started by you, with your world; docs/another_robot.md says what it must offer.
Settings, last wins: package default, config/robot, config/task, params_file:=, launch argument.
"""

from launch import LaunchDescription
from resfit_bringup.launch_front import describe


def generate_launch_description() -> LaunchDescription:
    """Return the actions of the job `gazebo`."""
    return describe("gazebo")
