"""
vl2v_health: say in one line whether a node is well, as the HEALTHCHECK of a container asks.

It listens to /diagnostics, where the classifier and the memory speak once a second. The exit code
is 0 if the node says OK or warns, and 1 if it reports an error or says nothing in time.
"""
import argparse
import os
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import rclpy
from vl2v_ros.checks import number
from vl2v_ros.nodes.program import begin, until_stopped

PATIENCE = 5.0  # a node speaks once a second, and has to be found first [s]


def listen(node: str, seconds: float) -> tuple[list[DiagnosticStatus], set[str]]:
    """
    Wait for the first statuses of a node.

    :return: the statuses, none after `seconds` [s], and the names of the nodes that spoke.
    """
    found: list[DiagnosticStatus] = []
    names: set[str] = set()

    def on_diagnostics(message: DiagnosticArray) -> None:
        names.update(status.name.partition(':')[0] for status in message.status)
        found.extend(status for status in message.status if status.name.startswith(f'{node}:'))

    listener = rclpy.create_node(f'health_{os.getpid()}')
    listener.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, 10)
    end = time.monotonic() + seconds
    while not found and (left := end - time.monotonic()) > 0:
        rclpy.spin_once(listener, timeout_sec=left)
    return found, names


def judge(node: str, found: list[DiagnosticStatus], names: set[str]) -> tuple[int, str]:
    """Return exit code and line for what `listen` has found."""
    if found:
        worst = max(found, key=lambda status: status.level)
        return int(worst.level > DiagnosticStatus.WARN), f'{worst.name}: {worst.message}'
    heard = ', '.join(sorted(names)) or 'nobody'
    domain = os.environ.get('ROS_DOMAIN_ID') or 0
    return 1, (f'vl2v_health: expected {node} on /diagnostics of ROS_DOMAIN_ID {domain}, heard '
               f'{heard}; start it, or name another: vl2v_health /namespace/name')


def main(args: list[str] | None = None) -> None:
    """Print the line, and exit with 0 or 1."""
    parser = argparse.ArgumentParser(prog='vl2v_health', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('node', nargs='?', default='/classifier',
                        help='name of the node, with its namespace; by default /classifier')
    parser.add_argument('--seconds', type=number(float, 0.1, 3600), default=PATIENCE,
                        help=f'how long to wait for it [s]; by default {PATIENCE:g}')
    options = parser.parse_args(args)
    node = '/' + options.node.lstrip('/')
    begin('vl2v_health', [])
    code, line = 1, 'vl2v_health: stopped before the node said anything'
    with until_stopped():
        code, line = judge(node, *listen(node, options.seconds))
    print(line)
    sys.exit(code)


if __name__ == '__main__':
    main()
