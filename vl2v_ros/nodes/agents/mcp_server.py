"""
vl2v_mcp: what the robot sees and has seen, as tools for a language model (MCP).

vl2v_mcp                  # over standard input and output, as an agent's program starts it
vl2v_mcp --http 8765      # over streamable HTTP, at http://127.0.0.1:8765/mcp

It needs a classifier, and for `find` a memory_node; it runs nothing itself. Over HTTP it listens
on this machine alone, as it asks nobody who he is. Arguments of ROS follow --ros-args.
"""
import argparse
import asyncio
from collections.abc import Callable
import json
import sys
from typing import Annotated, Any, Literal

import rclpy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from vl2v_ros.nodes.agents.robot import Robot

try:
    from mcp.server.mcpserver import Image, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from pydantic import Field
except ImportError as error:
    sys.exit(f'vl2v_mcp: expected the Python package mcp 2.3 ({error}); install it: '
             "pip install 'mcp>=2.3'")

HOST = '127.0.0.1'
MOST_LABELS, MOST_PICTURES, MOST_FRAMES = 1_000, 20, 50
Label = Annotated[str, Field(max_length=200)]
Camera = Annotated[str, Field(max_length=100, description='Name of a camera; empty: the one '
                              'without a name')]


def tools(robot: Robot) -> list[Callable[..., Any]]:
    """Return the tools; their names, types and docstrings are what a model reads."""
    async def ask(question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(question, *arguments)
        except ValueError as error:
            raise ToolError(str(error)) from error

    async def set_vocabulary(
            labels: Annotated[list[Label], Field(max_length=MOST_LABELS)] = [],
            operation: Literal['replace', 'add', 'remove', 'reset'] = 'replace',
            descriptions: Annotated[list[Annotated[str, Field(max_length=2_000)]], Field(
                max_length=MOST_LABELS)] = []) -> dict[str, Any]:
        """
        Change the labels that the robot names things with, such as ["red mug", "padlock"].

        `reset` restores those of its start. `descriptions`: none, or a sentence for each label
        that says how it looks; an empty one for a label without.
        """
        return await ask(robot.set_vocabulary, operation, labels, descriptions)

    async def what_do_you_see(camera: Camera = '') -> dict[str, Any]:
        """
        Name what a camera sees now, by the labels of the vocabulary, the most probable first.

        `unknown`: none of the labels fits. Each image gets one list: it is for the view as a
        whole.
        """
        return await ask(robot.what_do_you_see, camera)

    async def why(camera: Camera = '') -> dict[str, Any]:
        """Say which sentences about the labels decided what a camera sees now."""
        return await ask(robot.why, camera)

    async def teach(label: Label, frames: Annotated[int, Field(ge=1, le=MOST_FRAMES)] = 5,
                    camera: Camera = '') -> dict[str, Any]:
        """Teach the robot a label by what a camera shows in its next images: hold it there."""
        return await ask(robot.teach, label, frames, camera)

    async def find(text: Annotated[str, Field(min_length=1, max_length=200)],
                   count: Annotated[int, Field(ge=1, le=MOST_PICTURES)] = 5,
                   camera: Annotated[str, Field(max_length=100)] = '',
                   last_seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0) -> list[Any]:
        """
        Find when and where the robot saw a thing, such as "a red mug", the most similar first.

        Answers with times (UTC), cameras, places where they are known, and a picture of each.
        There is always a most similar one: look whether it is the thing. `camera` and
        `last_seconds` narrow the search; empty and 0: everywhere, ever.
        """
        facts, pictures = await ask(robot.find, text, count, camera, last_seconds)
        return [json.dumps(facts, ensure_ascii=False),
                *(Image(data=picture, format='jpeg') for picture in pictures if picture)]
    return [set_vocabulary, what_do_you_see, why, teach, find]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='vl2v_mcp', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--http', type=int, metavar='PORT',
                        help='listen there on this machine, in place of standard input')
    parser.add_argument('--classifier', default='classifier', help='name of the classifier node')
    parser.add_argument('--memory', default='memory', help='name of the memory node')
    options = parser.parse_args(arguments)
    if options.http is not None and not 0 < options.http < 65536:
        parser.error(f'--http: expected a port from 1 to 65535, got {options.http}')
    return options


def main(args: list[str] | None = None) -> None:
    """Serve until the client closes its end, or a signal comes."""
    given = sys.argv if args is None else args
    options = parse(remove_ros_args(given)[1:])
    # The server has handlers of its own.
    rclpy.init(args=given, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('vl2v_mcp')
    server = MCPServer('vl2v_ros', instructions='Tools of a robot that names and remembers what '
                       'its cameras see.', log_level='WARNING')
    for tool in tools(Robot(node, options.classifier, options.memory)):
        server.add_tool(tool, structured_output=False if tool.__name__ == 'find' else None)
    try:
        if options.http is None:
            server.run('stdio')
        else:
            server.run('streamable-http', host=HOST, port=options.http)
    except KeyboardInterrupt:
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
