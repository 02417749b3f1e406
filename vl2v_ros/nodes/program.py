"""Common parts of the node programs: how they end, and the option --profile."""
import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import sys

import rclpy
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from vl2v_ros import frame_profile


@contextmanager
def _reading(program: str) -> Iterator[None]:
    """Exit with 1 and one line for what rcl cannot read behind --ros-args."""
    try:
        yield
    except RuntimeError as error:
        said = ' '.join(str(error).split())
        advice = ('name a folder that can be written with ROS_LOG_DIR'
                  if 'log directory' in said else 'an empty text is written as -p name:="\'\'"')
        sys.exit(f'{program}: {said}; {advice}')


def begin(program: str, args: list[str] | None) -> None:
    """Start ROS; exit with 1 for arguments that it cannot read."""
    with _reading(program):
        rclpy.init(args=args)


@contextmanager
def until_stopped() -> Iterator[None]:
    """Run the block until it ends or a signal stops it; then shut ROS down."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except Exception:
        if rclpy.ok():  # else a signal came at a moment when rclpy does not expect it
            raise
    finally:
        rclpy.try_shutdown()


@contextmanager
def refusing(program: str, *errors: type[Exception]) -> Iterator[None]:
    """Exit with 1 and one line for these errors of the block, except after a signal."""
    try:
        yield
    except errors as error:
        if not rclpy.ok():
            raise
        sys.exit(f'{program}: {error}')


def profile_path(program: str, args: list[str], description: str | None) -> Path | None:
    """Return the path of --profile, None without it; exit if the arguments cannot be read."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument('--profile', metavar='FILE.json', default='',
                        help='measure the time of each step of a frame; write it every 10 s and '
                        'at the end, and at the end draw it as FILE.png')
    with _reading(program):
        others = remove_ros_args(args)[1:]
    options = parser.parse_args(others)
    path = Path(options.profile).expanduser()
    if options.profile and (path.suffix != '.json' or not path.parent.is_dir()):
        parser.error('--profile: expected a file that ends in .json, in a folder that exists, '
                     f'got {options.profile}')
    return path if options.profile else None


def save_profile(path: Path, node: Node, picture: bool = False) -> None:
    """Write the profile; log a warning if it cannot be written."""
    try:
        frame_profile.save(path, picture)
    except OSError as error:
        node.get_logger().warning(f'--profile {path}: cannot be written: {error}')
