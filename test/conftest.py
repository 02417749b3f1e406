"""Fixtures that several test modules share."""
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import fcntl
from functools import cache
from importlib.util import find_spec
import inspect
import multiprocessing
import os
from pathlib import Path
import re
import signal
import tempfile
from typing import TYPE_CHECKING

# Before torch is imported, here or in a process of a test. The models are small: with threads of
# several processes that wait for each other, the tests of the runtimes took twice as long.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest  # noqa: E402

if TYPE_CHECKING:
    from support.ros_processes import Ros

# From Python 3.14 on, processes that load images are not forks of the one that trains: where it
# has threads, a fork may wait for ever for a lock. The trainings of support.trainings do fork.
multiprocessing.set_start_method('forkserver', force=True)
# A shell's background job ignores Ctrl-C, and so would all programs that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What a test module imports that is there only where ROS 2 is.
NEEDS_ROS = re.compile(
    r'^( *)(?:from|import) (?:rclpy|\w+_msgs|rcl_interfaces|ament_index_python|'
    r'support\.ros_processes|vl2v_ros\.nodes)\b', re.MULTILINE)


@cache
def needs_ros(path: Path) -> bool:
    return '' in NEEDS_ROS.findall(path.read_text(encoding='utf-8'))


@cache
def names_ros(function: Callable[..., object]) -> bool:
    """Tell whether a function imports what is there only with ROS; many tests share one."""
    return NEEDS_ROS.search(inspect.getsource(function)) is not None


@cache
def has_ros() -> bool:
    return bool(find_spec('rclpy'))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what needs ROS where there is none, rather than fail to import it."""
    if collection_path.name.startswith('test_') and not has_ros() and needs_ros(collection_path):
        return True
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Keep `-m "not ros"` short: what takes several seconds is left to `make test`."""
    if config.option.markexpr == 'not ros':
        config.option.markexpr = 'not ros and not long'


def pytest_report_header(config: pytest.Config) -> list[str]:
    return ([] if has_ros() else ['without ROS 2: tests that need it are left out']) + (
        ['without tests that take long; for them, too: -m "not ros or long"']
        if config.option.markexpr == 'not ros and not long' else [])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark what needs ROS, so that `-m "not ros"` runs the rest; bring files into an order.

    Several processes take files in turn. Those of few tests have the longest, so they come first.
    Those that need ROS, which mostly wait, come evenly between those that compute. At the end come
    those with tests that run alone, for which the others wait.
    """
    for item in items:
        function = getattr(item, 'function', None)
        if (needs_ros(item.path) or 'ros' in getattr(item, 'fixturenames', ())
                or function and names_ros(function)):
            item.add_marker('ros')
    if 'PYTEST_XDIST_WORKER' in os.environ:
        places = {path: place for kind in (True, False) for path, place in in_turn(
            [item for item in items if kind == (item.get_closest_marker('ros') is not None)])}
        alone = {item.path for item in items if item.get_closest_marker('alone') is not None}
        items.sort(key=lambda item: (item.path in alone, places[item.path], item.path))


def in_turn(items: Sequence[pytest.Item]) -> Iterator[tuple[Path, float]]:
    """Yield the files of tests, those of few tests first, with places spread over 0 to 1."""
    tests = Counter(item.path for item in items)
    for number, path in enumerate(sorted(tests, key=lambda path: (tests[path], path))):
        yield path, number / len(tests)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker('cuda'):
        import torch
        if not torch.cuda.is_available():
            pytest.skip('no CUDA device')


@contextmanager
def machine(name: str, alone: bool) -> Iterator[None]:
    """Share the machine with the other test processes, or keep them waiting."""
    with open(f'{name}.door', 'wb') as door, open(f'{name}.room', 'wb') as room:
        fcntl.flock(door, fcntl.LOCK_EX)  # who waits for the room lets nobody pass
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)  # waiting is not of a test's own time limit
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """
    Run what is marked `alone` while no other test runs.

    The machine is given back after each test: a process may get its next one only once others,
    which would wait for the machine, have gone on.
    """
    if 'PYTEST_XDIST_WORKER' not in os.environ:
        yield
        return
    name = os.path.join(tempfile.gettempdir(),
                        f"vl2v_tests_{os.environ['PYTEST_XDIST_TESTRUNUID']}")
    with machine(name, item.get_closest_marker('alone') is not None):
        yield


@pytest.fixture(scope='session')
def shapes_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return the checkpoint of a toy student, trained once; its text tower lies beside it.

    SHAPES_FOLDER names a folder where another process may have trained it, or is about to.
    """
    from support import shapes  # not above: the process that hands out tests needs no open_clip
    if 'SHAPES_FOLDER' in os.environ:
        return shapes.trained(Path(os.environ['SHAPES_FOLDER']))
    if 'PYTEST_XDIST_WORKER' not in os.environ:
        return shapes.train(tmp_path_factory.mktemp('shapes'))
    return shapes.trained(tmp_path_factory.getbasetemp().parent / 'shapes')  # of all processes


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is the prompt cache of this test and the processes it starts."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'vl2v_ros'


@pytest.fixture(scope='session')
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that all processes of a test run fill together."""
    if 'PYTEST_XDIST_WORKER' not in os.environ:
        return tmp_path_factory.mktemp('cache')
    return tmp_path_factory.getbasetemp().parent / 'cache'


@pytest.fixture
def warm_cache(session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let this test use what others have cached of prompts and graphs, as a user's second start does.

    That spares a process the import of torch and the compilation of the student: 6 s of a core.
    """
    monkeypatch.setenv('XDG_CACHE_HOME', str(session_cache))


@pytest.fixture(scope='module')
def ros(tmp_path_factory: pytest.TempPathFactory) -> Iterator['Ros']:
    """Yield a DDS domain of this module's own; its processes end with it."""
    from support.ros_processes import (  # here, so that tests of the core do not need ROS
        own_domain,
        Ros,
    )
    from support.shared_memory import sweep
    with own_domain() as domain:
        ros = Ros(domain, tmp_path_factory.mktemp('ros'))
        yield ros
        ros.close()
        sweep()


@pytest.fixture(scope='session')
def settings(shapes_student: Path, session_cache: Path) -> dict[str, object]:
    """Return parameters of a classifier that knows coloured shapes; prompts are cached."""
    from support.ros_processes import LABELS
    return {'checkpoint': shapes_student, 'vocabulary': ', '.join(LABELS),
            'cache_dir': session_cache / 'vl2v_ros'}


@pytest.fixture(autouse=True)
def show_output(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what processes said during a test; pytest shows it where the test fails."""
    yield
    if 'ros' in request.fixturenames:
        print(request.getfixturevalue('ros').news())
