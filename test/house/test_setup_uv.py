"""tools/setup_env.py with uv: settings of pip count, and the files of uv's cache stay whole."""

from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import os
from pathlib import Path
import sys
from threading import Thread
from types import ModuleType
import zipfile

import pytest
from support.setup_tool import load

ROOT = Path(__file__).resolve().parents[2]

# As in std_msgs's wheel for Python 3.11
EXPORTED_CMAKE = 'set(there "/opt/python/cp311-cp311/include/python3.11")'


@pytest.fixture
def tool() -> ModuleType:
    return load(ROOT)


def test_the_copy_of_a_file_in_the_cache_stays_as_it_was(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is one file in all environments that uv makes, so it must not be written to."""
    (tmp_path / 'cached').write_text(EXPORTED_CMAKE)
    (tmp_path / '.venv/lib/python3.11/site-packages').mkdir(parents=True)
    file = tmp_path / '.venv/share/std_msgs/cmake/export.cmake'
    file.parent.mkdir(parents=True)
    file.hardlink_to(tmp_path / 'cached')
    monkeypatch.setattr(tool, 'VENV', tmp_path / '.venv')
    monkeypatch.setattr(tool, 'colcon', lambda *arguments: None)
    tool.make_interfaces('')
    assert '/opt/python' not in file.read_text()
    assert (tmp_path / 'cached').read_text() == EXPORTED_CMAKE


@pytest.fixture
def pip_settings(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], dict[str, str]]:
    """Return a function that writes a user's pip.conf; it returns uv's settings from it."""
    for name in [name for name in os.environ if name.startswith(('PIP_', 'UV_'))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(tool, 'PYTHON', sys.executable)

    def settings(text: str) -> dict[str, str]:
        monkeypatch.setenv('PIP_CONFIG_FILE', str(tmp_path / 'pip.conf'))
        (tmp_path / 'pip.conf').write_text(text)
        return tool.uv_settings()
    return settings


def test_what_is_set_for_pip_counts_for_uv(
    pip_settings: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variables before the section [install] before [global], as with pip."""
    found = pip_settings(
        '[global]\nindex-url = https://a.invalid/simple\ntimeout = 5\n'
        'trusted-host =\n  b\n  c:80\nfind-links = /x  /y z\nproxy = http://p:1\n'
        '[install]\ntimeout = 6\n[list]\ntimeout = 7\n')
    wanted = {'UV_DEFAULT_INDEX': 'https://a.invalid/simple', 'UV_HTTP_TIMEOUT': '6',
              'UV_INSECURE_HOST': 'b c:80', 'UV_FIND_LINKS': '/x,/y,z', 'ALL_PROXY': 'http://p:1'}
    assert found.items() >= wanted.items()
    monkeypatch.setenv('PIP_DEFAULT_TIMEOUT', '8')
    assert pip_settings('[global]\ntimeout = 5\n')['UV_HTTP_TIMEOUT'] == '8'


def test_uv_installs_from_the_index_that_pip_was_told(
    tool: ModuleType, tmp_path: Path, pip_settings: Callable[[str], dict[str, str]],
) -> None:
    """A real server of two indexes, of which the second has the version that is asked for."""
    pytest.importorskip('uv')
    for index, version in ('first', '1'), ('second', '2'):
        folder = tmp_path / 'served' / index / 'nothing-of-ours'
        folder.mkdir(parents=True)
        about = f'nothing_of_ours-{version}.dist-info'
        with zipfile.ZipFile(folder / f'nothing_of_ours-{version}-py3-none-any.whl', 'w') as wheel:
            wheel.writestr(f'{about}/METADATA', 'Metadata-Version: 2.1\nName: nothing-of-ours\n'
                           f'Version: {version}\n')
            wheel.writestr(f'{about}/WHEEL', 'Wheel-Version: 1.0\nGenerator: test\n'
                           'Root-Is-Purelib: true\nTag: py3-none-any\n')
            wheel.writestr(f'{about}/RECORD', '')
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / 'served'))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        there = f'http://127.0.0.1:{server.server_port}'
        settings = pip_settings(
            f'[global]\nindex-url = {there}/first\nextra-index-url = {there}/second\n')
        tool.run([sys.executable, '-m', 'uv', 'pip', 'install', '--no-cache', '--target',
                  str(tmp_path / 'there'), 'nothing-of-ours==2'], 'a step', settings)
        server.shutdown()
    assert (tmp_path / 'there' / 'nothing_of_ours-2.dist-info').is_dir()
