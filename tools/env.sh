#!/usr/bin/env bash
# The environment in which everything of this repository runs. Two ways to use it:
#     source tools/env.sh                 # in bash, for this shell
#     tools/env.sh resfit run train       # for one command
# What is already set in the environment wins, except for the paths of this workspace.

_resfit_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"

if [ ! -x "$_resfit_root/.venv/bin/python" ] || [ ! -f "$_resfit_root/install/setup.bash" ]; then
    echo "env.sh: this clone is not set up: run \`make setup\`" >&2
    if [ "${BASH_SOURCE[0]}" = "$0" ]; then exit 1; else return 1; fi
fi

export VIRTUAL_ENV="$_resfit_root/.venv"
export PATH="$VIRTUAL_ENV/bin:$PATH"
if [ -f "$VIRTUAL_ENV/local_setup.sh" ]; then
    . "$VIRTUAL_ENV/local_setup.sh"
    . "$_resfit_root/install/local_setup.bash"
else
    # On a ROS install; this brings it along if the shell has not sourced it.
    . "$_resfit_root/install/setup.bash"
fi

# Images need larger shared-memory segments than Fast DDS's default. The second name is that of Fast DDS 3 (Kilted).
export FASTRTPS_DEFAULT_PROFILES_FILE="${FASTRTPS_DEFAULT_PROFILES_FILE:-$_resfit_root/config/dds/fastdds.xml}"
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$FASTRTPS_DEFAULT_PROFILES_FILE}"
# Nobody else's robot on the same network may hear this graph unless it is asked to.
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"

# How MuJoCo draws without a screen, as set-up found out.
if [ -z "${MUJOCO_GL:-}" ] && [ -s "$VIRTUAL_ENV/mujoco_gl" ]; then
    MUJOCO_GL="$(<"$VIRTUAL_ENV/mujoco_gl")"
    export MUJOCO_GL PYOPENGL_PLATFORM="${PYOPENGL_PLATFORM:-$MUJOCO_GL}"
fi

# Keep image- and batch-sized blocks in the heap: by default each is mapped and unmapped anew, page by page.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-33554432}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-268435456}"

unset _resfit_root
if [ "${BASH_SOURCE[0]}" = "$0" ] && [ "$#" -gt 0 ]; then
    exec "$@"
fi
