#!/usr/bin/env bash
# Run the container's command with ROS 2 and this workspace sourced.
set -e
source /opt/ros/jazzy/setup.bash
exec /opt/resfit/tools/env.sh "$@"
