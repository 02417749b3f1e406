"""Common parts of the node programs: their options, and how they end."""
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


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser for the options of a node program, see `read`."""
    return argparse.ArgumentParser(
        prog=program, description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Parameters: --ros-args -p NAME:=VALUE, or --ros-args --params-file FILE.yaml')


def read(options: argparse.ArgumentParser, args: list[str] | None) -> argparse.Namespace:
    """
    Read the arguments that are not for ROS; exit if they cannot be read, or for --help.

    :param args: the program and its arguments; None: those of this process.
    """
    with _reading(options.prog):
        others = remove_ros_args(sys.argv if args is None else args)[1:]
    return options.parse_args(others)


def profile_path(program: str, args: list[str] | None, description: str | None) -> Path | None:
    """Return the path of --profile, None without it; exits as `read` does."""
    options = parser(program, description)
    options.add_argument('--profile', metavar='FILE.json', default='',
                         help='measure the time of each step of a frame; write it every 10 s and '
                         'at the end, and at the end draw it as FILE.png')
    given = read(options, args).profile
    path = Path(given).expanduser()
    if given and (path.suffix != '.json' or not path.parent.is_dir()):
        options.error('--profile: expected a file that ends in .json, in a folder that exists, '
                      f'got {given}')
    return path if given else None


def save_profile(path: Path, node: Node, picture: bool = False) -> None:
    """Write the profile; log a warning if it cannot be written."""
    try:
        frame_profile.save(path, picture)
    except OSError as error:
        node.get_logger().warning(f'--profile {path}: cannot be written: {error}')
