"""vl2v_mcp: its tools by the package's own client, beside real nodes; and hostile clients."""
import asyncio
import base64
from collections.abc import Iterator
import json
import os
from pathlib import Path
import socket
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from support import shapes
from support.processes import wait_until
from support.ros_processes import Camera, LABELS, Ros
from vl2v_msgs.srv import Find
from vl2v_ros.images.encodings import decode

mcp = pytest.importorskip('mcp')
PROGRAM = 'vl2v_ros.nodes.agents.mcp_server'
TOOLS = {'set_vocabulary', 'what_do_you_see', 'why', 'teach', 'find'}
SHOWN, OTHER = LABELS[0], LABELS[1]
# What a page in a browser could send, of a host that it calls its own.
STRANGE = b'POST /mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}'


@pytest.fixture(scope='module')
def robot(ros: Ros, settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory
          ) -> Iterator[None]:
    """Start a classifier and a memory, before a camera that shows one thing."""
    ros.classifier(settings)
    ros.start('remembering.memory_node', {
        'file': tmp_path_factory.mktemp('memory') / 'memory.sqlite'}
        ).wait_for_output('remembers in')
    camera, ended = Camera(ros), threading.Event()
    picture = shapes.draw(SHOWN, 320, 240, np.random.default_rng(0), (0, 0))

    def show() -> None:
        while not ended.wait(0.1):
            camera.send(picture)
    thread = threading.Thread(target=show)
    thread.start()
    # The memory may hear of the camera a second later than of the classifier.
    wait_until(lambda: any(one.thumbnail.data for one in ros.call(
        Find, 'memory/find', text=SHOWN).sightings), 'a picture', step=0.3)
    yield
    ended.set()
    thread.join()
    camera.close()


@pytest.fixture(scope='module')
def port(ros: Ros, robot: None) -> int:
    with socket.socket() as lent:
        lent.bind(('127.0.0.1', 0))
        port = int(lent.getsockname()[1])
    process = ros.run(sys.executable, '-m', PROGRAM, '--http', port)

    def open_() -> bool:
        assert process._popen.poll() is None, process.output
        with socket.socket() as tried:
            return tried.connect_ex(('127.0.0.1', port)) == 0
    wait_until(open_, 'the server')
    return port


def ask(server: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Call tools one after the other, in one session; return the results."""
    async def talk() -> list[Any]:
        async with mcp.Client(server, read_timeout_seconds=120) as client:
            listed = await client.list_tools()
            assert {tool.name for tool in listed.tools} == TOOLS
            assert all(tool.description for tool in listed.tools)
            return [await client.call_tool(name, arguments) for name, arguments in calls]
    return asyncio.run(talk())


def test_an_agent_sees_finds_and_changes_the_words(port: int) -> None:
    url = f'http://127.0.0.1:{port}/mcp'
    seen, why, changed, after, found = ask(
        url, ('what_do_you_see', {}), ('why', {}),
        ('set_vocabulary', {'labels': [OTHER, SHOWN]}), ('what_do_you_see', {}),
        ('find', {'text': f'a {SHOWN}', 'count': 2, 'last_seconds': 3600}))
    assert seen.structured_content['labels'][0]['label'] == SHOWN, seen
    assert why.structured_content['reasons'][0]['label'] == SHOWN, why
    assert changed.structured_content['first_labels'] == [OTHER, SHOWN]
    assert len(after.structured_content['labels']) == 2
    facts = json.loads(found.content[0].text)
    assert facts['sightings'][0]['similarity'] > 0 and facts['compared'], facts
    assert found.content[1].mime_type == 'image/jpeg'
    assert decode(base64.b64decode(found.content[1].data)).pixels.shape[1] == 96


def test_what_is_out_of_bounds_is_refused(port: int) -> None:
    refused = ask(
        f'http://127.0.0.1:{port}/mcp', ('set_vocabulary', {'labels': ['x' * 300]}),
        ('set_vocabulary', {'labels': ['x'] * 2000}), ('set_vocabulary', {'operation': 'eat'}),
        ('set_vocabulary', {'labels': [SHOWN, SHOWN]}), ('find', {'text': ''}),
        ('find', {'text': 'x', 'count': 10_000}), ('teach', {'label': 'x', 'frames': 0}),
        ('what_do_you_see', {'camera': '../../etc'}), ('find', {'text': 'x', 'camera': 'rear'}),
        ('what_do_you_see', {'camera': 'rear'}))
    assert all(one.is_error for one in refused), refused
    assert all(len(one.content[0].text) < 2000 for one in refused)
    assert "repeats 'red circle'" in refused[3].content[0].text
    assert 'nobody publishes on /classifier/rear/labels' in refused[-1].content[0].text


def test_clients_that_send_garbage_or_hang_stop_nobody(port: int) -> None:
    with socket.create_connection(('127.0.0.1', port)) as hung:
        hung.sendall(b'POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{')
        for garbage in (b'\x00\xff' * 5000, b'GET / HTTP/9\r\n\r\n', STRANGE):
            with socket.create_connection(('127.0.0.1', port)) as peer:
                peer.settimeout(10)
                peer.sendall(garbage)
                try:
                    assert b' 4' in peer.recv(100)[:12]
                except ConnectionError:
                    pass  # it hung up
        assert not ask(f'http://127.0.0.1:{port}/mcp', ('what_do_you_see', {}))[0].is_error


def test_it_is_started_by_an_agent_and_ends_with_it(ros: Ros, robot: None, tmp_path: Path) -> None:
    env, command = {**os.environ, **ros._env}, [sys.executable, '-m', PROGRAM]
    server = mcp.StdioServerParameters(command=command[0], args=command[1:], env=env)
    seen, = ask(server, ('what_do_you_see', {}))
    assert seen.structured_content['labels'][0]['label'] in (SHOWN, OTHER)
    with (tmp_path / 'said').open('w') as said:
        done = subprocess.run(command, input=b'garbage\n{"jsonrpc": 7}\n\xff\xfe\n', env=env,
                              stdout=subprocess.PIPE, stderr=said, timeout=60)
    assert done.returncode == 0, (tmp_path / 'said').read_text()
    assert 'Traceback' not in (tmp_path / 'said').read_text()
    assert all(json.loads(line) for line in done.stdout.splitlines())


def test_without_the_package_one_line_says_so() -> None:
    done = subprocess.run([sys.executable, '-c', 'import sys; sys.modules["mcp"] = None; import '
                           f'{PROGRAM}'], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    assert "install it: pip install 'mcp>=2.3'" in done.stderr
