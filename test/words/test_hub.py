"""Fetching a text tower from a hub, which runs on this machine and fails as it is told to."""
from collections.abc import Iterator
import json
import os
from pathlib import Path
import shutil
import socket
import subprocess
import sys

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
import pytest
from safetensors.torch import save
from support import offline_student, warm
from support.classify_command import PROGRAM
from support.hub_server import HubServer
from support.offline_student import IDENTITY, no_hub
from support.tiny_models import python
from vl2v_ros.words import open_clip_models
from vl2v_ros.words.hub import _first_hop

SAFE, PICKLED = HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
WEIGHTS = os.urandom(1_000_000)  # what is in them does not matter to who fetches them
BANANA = Path(__file__).resolve().parents[2] / (
    'data/ycb_sample/single/studio/011_banana/00000.jpg')


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer({SAFE: WEIGHTS, PICKLED: b'older'}).running() as hub:
        yield hub


# The model is written out, as looking for it takes seconds, most of them open_clip's import.
FIND = f"""
import resource, sys
from vl2v_ros.words import hub
from vl2v_ros.words.open_clip_models import OpenClipModel
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
try:
    print(hub.find({open_clip_models.find(*IDENTITY.split('/'))}))
except hub.NotAtHand as error:
    print(error)
"""


def find(hub: HubServer, home: Path, *arguments: object, **environment: str) -> str:
    """Return the path of the weights, or why there is none; in a process of its own."""
    said = python(FIND, *arguments, HF_ENDPOINT=hub.url, HF_HOME=str(home),
                  HF_HUB_DISABLE_XET='1', no_proxy='127.0.0.1', **environment)
    line, = said.splitlines()
    return line


def files(home: Path) -> list[bytes]:
    """Return the content of what has been fetched, whole or not."""
    return [path.read_bytes() for path in sorted(home.rglob('blobs/*'))]


def test_weights_are_fetched_once_and_then_need_no_network(hub: HubServer, tmp_path: Path) -> None:
    path = find(hub, tmp_path)
    assert Path(path).read_bytes() == WEIGHTS and path.endswith(SAFE)
    assert f'GET {PICKLED}' not in hub.asked
    hub.asked.clear()
    assert find(hub, tmp_path) == path
    assert find(hub, tmp_path, HF_HUB_OFFLINE='1') == path
    assert not any(SAFE in asked or PICKLED in asked for asked in hub.asked)


def test_without_safetensors_the_other_file_is_taken(hub: HubServer, tmp_path: Path) -> None:
    del hub.files[SAFE]
    assert Path(find(hub, tmp_path)).read_bytes() == b'older'
    hub.asked.clear()
    assert Path(find(hub, tmp_path)).name == PICKLED and hub.asked.count(f'GET {PICKLED}') == 0


@pytest.mark.long
def test_a_download_that_breaks_off_leaves_nothing_that_counts_as_whole(
        hub: HubServer, tmp_path: Path) -> None:
    hub.cut = 400_000
    said = find(hub, tmp_path)
    assert said.startswith(f'the text tower {IDENTITY} is not cached, and could not be fetched (')
    assert said.endswith('; try again')
    assert WEIGHTS not in files(tmp_path)
    assert 'HF_HUB_OFFLINE' in find(hub, tmp_path, HF_HUB_OFFLINE='1')  # so it is not cached
    hub.cut = None
    assert Path(find(hub, tmp_path)).read_bytes() == WEIGHTS
    assert files(tmp_path) == [WEIGHTS]


@pytest.mark.long
def test_a_download_that_breaks_off_goes_on_where_it_was(hub: HubServer, tmp_path: Path) -> None:
    hub.files[SAFE] = WEIGHTS * 25  # the hub's client keeps 10 MiB at a time
    hub.piece = 12_000_000
    assert Path(find(hub, tmp_path)).read_bytes() == hub.files[SAFE]
    assert hub.asked.count(f'GET {SAFE}') == 3


def test_other_bytes_than_the_hub_names_are_not_kept(hub: HubServer, tmp_path: Path) -> None:
    hub.other = True
    assert 'expected the file with SHA-256' in find(hub, tmp_path)
    assert files(tmp_path) == []
    hub.other = False
    assert Path(find(hub, tmp_path)).read_bytes() == WEIGHTS


def test_a_refusal_is_one_line(hub: HubServer, tmp_path: Path) -> None:
    hub.status = 403
    said = find(hub, tmp_path)
    assert said.startswith(f'the text tower {IDENTITY} is not cached, and could not be fetched (')
    assert '403' in said and files(tmp_path) == []


def test_without_the_files_that_is_said(hub: HubServer, tmp_path: Path) -> None:
    hub.files.clear()
    said = find(hub, tmp_path)
    assert 'could not be fetched (' in said and '404' in said


def test_no_room_is_said_and_what_was_begun_is_cleared_away(hub: HubServer, tmp_path: Path
                                                            ) -> None:
    said = find(hub, tmp_path, 500_000)
    assert f'could not be fetched (no room in {tmp_path}/hub: ' in said
    assert said.endswith('; make room, or set HF_HOME to a folder on another disk')
    assert files(tmp_path) == []
    assert Path(find(hub, tmp_path)).read_bytes() == WEIGHTS


def test_a_full_disk_is_said_and_left_as_it_was(hub: HubServer, tmp_path: Path) -> None:
    script = (f'mount -t tmpfs -o size=600k tmpfs {tmp_path} && "$0" -c "$1" && '
              f'find {tmp_path} -path "*blobs/*"')
    environment = {**os.environ, 'HF_ENDPOINT': hub.url, 'HF_HOME': str(tmp_path),
                   'HF_HUB_DISABLE_XET': '1', 'no_proxy': '127.0.0.1'}
    done = subprocess.run(['unshare', '--map-root-user', '--mount', 'sh', '-c', script,
                           sys.executable, FIND], capture_output=True, text=True, timeout=300,
                          env=environment)
    if 'unshare' in done.stderr or 'mount:' in done.stderr:
        pytest.skip(f'needs to mount a small disk: {done.stderr}')
    line, = done.stdout.splitlines()  # find finds nothing
    assert f'(no room in {tmp_path}/hub: No space left on device); make room' in line


def test_nothing_is_waited_for_where_the_hub_never_answers(tmp_path: Path) -> None:
    with socket.create_server(('127.0.0.1', 0), backlog=0) as mute:
        held = []
        try:  # once its queue is full, it answers no more
            while len(held) < 10:
                held.append(socket.create_connection(mute.getsockname(), 0.2))
        except TimeoutError:
            pass
        said = python(FIND, HF_ENDPOINT=f'http://127.0.0.1:{mute.getsockname()[1]}',
                      HF_HOME=str(tmp_path), no_proxy='127.0.0.1')
        for connection in held:
            connection.close()
    assert 'there is no network (127.0.0.1:' in said


@pytest.mark.parametrize(('environment', 'expected'), [
    ({}, ('https', 'hub.example', None)),
    ({'https_proxy': 'http://proxy.example:3128'}, ('http', 'proxy.example', 3128)),
    ({'https_proxy': 'proxy.example:3128'}, ('http', 'proxy.example', 3128)),
    ({'all_proxy': 'socks5://proxy.example:1080'}, ('http', 'proxy.example', 1080)),
    ({'https_proxy': 'http://proxy.example:3128', 'no_proxy': 'hub.example'},
     ('https', 'hub.example', None))])
def test_a_proxy_is_asked_in_the_place_of_the_hub(
        monkeypatch: pytest.MonkeyPatch, environment: dict[str, str],
        expected: tuple[str, str, int | None]) -> None:
    for name in ('https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _first_hop('https://hub.example') == expected


@pytest.mark.usefixtures('cache_dir')
@pytest.mark.long
def test_any_words_at_all_once_the_real_tower_was_fetched(hub: HubServer, tmp_path: Path) -> None:
    """The weights are random, but of the size, the names and the model of the real ones."""
    model = open_clip.create_model('ViT-B-32-quickgelu')
    hub.files[SAFE] = save({name: weight.half() for name, weight in model.state_dict().items()})
    path = offline_student.write(tmp_path, width=512, graph=True)
    (tmp_path / 'words.yaml').write_text(json.dumps({'labels': {
        'mug': 'It has a handle.', 'red mug': '', 'alarm clock': ''}}))
    home = tmp_path / 'home'

    def classify(**environment: str) -> subprocess.CompletedProcess[str]:
        return warm.run(
            PROGRAM, BANANA, '--checkpoint', path, '--device', 'cpu', '--vocabulary',
            tmp_path / 'words.yaml', environment={
                **os.environ, 'HF_HOME': str(home), 'HF_HUB_DISABLE_XET': '1',
                'no_proxy': '127.0.0.1', **environment})

    try:
        refused = classify(**no_hub(home))
        assert refused.returncode == 1 and "cannot encode label 'red mug'" in refused.stderr
        fetched = classify(HF_ENDPOINT=hub.url)
        assert fetched.returncode == 0, fetched.stderr
        assert f'downloading the weights of the text tower {IDENTITY}' in fetched.stderr
        assert 'a photo of a mug. It has a handle.' in fetched.stdout
        assert 'lack a part' not in fetched.stderr
        again = classify(**no_hub(home))  # from the cache of prompts
        assert again.stdout == fetched.stdout and again.stderr == ''
        (tmp_path / 'words.yaml').write_text('labels: [blue mug]')
        other = classify(**no_hub(home))  # from the cache of weights
        assert other.returncode == 0 and other.stderr == '', other.stderr
    finally:
        shutil.rmtree(home, ignore_errors=True)
