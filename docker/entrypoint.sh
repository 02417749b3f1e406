#!/bin/sh
# Run a program with the search paths of ROS 2: those of .venv, and of the distribution below it.
. "$(dirname "$0")/../.venv/setup.sh"
exec "$@"
