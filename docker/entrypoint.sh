#!/bin/sh
# Run a program with the search paths of ROS 2: those of .venv, and of the distribution below it.
here=$(cd "$(dirname "$0")/.." && pwd)
. "$here/.venv/setup.sh"
# For large images, as the launch files do it; Fast DDS up to Jazzy's knows it by an older name.
case "$ROS_DISTRO" in
    humble | iron | jazzy) name=FASTRTPS_DEFAULT_PROFILES_FILE ;;
    *) name=FASTDDS_DEFAULT_PROFILES_FILE ;;
esac
eval "export $name=\"\${$name:-$here/config/fastdds_shm.xml}\""
exec "$@"
