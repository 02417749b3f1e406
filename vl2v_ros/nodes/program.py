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
    """Return the path of --profile, None without it; exit with 2 for an invalid path."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument('--profile', metavar='FILE.json', default='',
                        help='measure the time of each step of a frame; write it every 10 s and '
                        'at the end, and at the end draw it as FILE.png')
    options = parser.parse_args(remove_ros_args(args)[1:])
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
