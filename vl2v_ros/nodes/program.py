"""What the programs of the nodes have in common: how they end, and a profile if one is wanted."""
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
    """Run the block until it ends or this process is told to stop; then ROS is shut down."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except Exception:
        if rclpy.ok():  # else it was told to stop, at a moment when rclpy does not expect it
            raise
    finally:
        rclpy.try_shutdown()


@contextmanager
def refusing(program: str, *errors: type[Exception]) -> Iterator[None]:
    """Exit with 1 and one line for such errors of the block; not if told to stop meanwhile."""
    try:
        yield
    except errors as error:
        if not rclpy.ok():
            raise
        sys.exit(f'{program}: {error}')


def profile_path(program: str, args: list[str], description: str | None) -> Path | None:
    """Return where the command line wants a profile; exit with 2 if that cannot be."""
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
    """Write what was measured; a warning if it cannot be written."""
    try:
        frame_profile.save(path, picture)
    except OSError as error:
        node.get_logger().warning(f'--profile {path}: cannot be written: {error}')
