"""Play recorded sensors through the live nodes (its graph: resfit_bringup/graph.py).

    ros2 launch resfit_bringup replay.launch.py bag:=runs/latest
    ros2 launch resfit_bringup replay.launch.py bag:=runs/latest/episodes/episode_000012
    ros2 launch resfit_bringup replay.launch.py bag:=… weights:=other.safetensors tolerance:=1e-4
    ros2 launch resfit_bringup replay.launch.py --show-args

Settings, last wins: package default, those of the bag's run, params_file:=, launch argument.
"""

from launch import LaunchDescription
from resfit_bringup.launch_front import describe


def generate_launch_description() -> LaunchDescription:
    """Return the actions of the job `replay`."""
    return describe("replay")
