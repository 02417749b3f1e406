"""make bench: its figures, its comparison, its page, and one small run of it."""
from collections.abc import Iterator
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

from benchmarks import bench
from benchmarks.compare import committed, last_run, verdict
from benchmarks.contenders import environment_of, Setup
from benchmarks.timing import summarise
import pytest
from sensor_msgs.msg import Image
from support.ros_processes import own_domain, Ros
from vl2v_ros.nodes.transport import environment, OLDER_PROFILE, PROFILE

ROOT = Path(__file__).parents[2]
MS = 1_000_000  # [ns]


def test_figures_of_a_run() -> None:
    sent = [number * 100 * MS for number in range(11)]  # 10 Hz
    latency = [10, 20, 10, 20, 10, 20, 10, 20, 10, 20]  # [ms]; the last is not answered
    received = {stamp: stamp + wait * MS for stamp, wait in zip(sent, latency, strict=False)}
    found = summarise(sent, received | {12345: 1})  # and one of nobody's
    assert found == pytest.approx({
        'sent': 11, 'missed': 1, 'rate sent': 10, 'rate answered': 9 / 0.91,
        'latency mean': 15, 'latency p50': 20, 'latency p99': 20, 'latency max': 20,
        'jitter mean': 20, 'jitter max': 20})
    assert summarise(sent, {}) == {'sent': 11, 'missed': 11, 'rate sent': 10}


@pytest.mark.parametrize('limit, camera, highest', [
    (130.0, 1e9, 130.0), (7.0, 1e9, 7.0), (1e9, 300.0, 300.0), (0.0, 1e9, 0.0)])
@pytest.mark.parametrize('guess', [0.0, 90.0, 1000.0])
def test_highest_rate_is_found_from_any_guess(
        limit: float, camera: float, highest: float, guess: float) -> None:
    class Node:
        """Answers up to a rate, of what a camera can send."""

        setup = 'a node'

        def measure(self, rate: float, seconds: float) -> dict[str, float]:
            sent = min(rate, camera)
            return {'sent': sent * seconds, 'missed': max(0.0, sent - limit) * seconds,
                    'rate sent': sent}

    said: list[str] = []
    found = bench.highest_rate(Node(), guess, said.append, 1.05, 100)['highest rate']
    assert found == pytest.approx(highest, rel=0.11)  # 5 % may be missed, 5 % is the step
    assert bool(said) == (camera == 300.0)


@pytest.mark.parametrize('old, new, higher_is_better, expected', [
    ([1.0, 1.2], [1.1, 1.3], False, 0), ([1.0, 1.2], [1.3, 1.4], False, 1),
    ([1.0, 1.2], [0.8, 0.9], False, -1), ([1.0, 1.2], [0.8, 0.9], True, 1),
    ([1.0], [1.09], False, 0), ([1.0], [1.2], False, 1)])
def test_slower_is_what_lies_beyond_the_spread(
        old: list[float], new: list[float], higher_is_better: bool,
        expected: int) -> None:
    assert verdict(old, new, higher_is_better) == expected


def compare(*files: Path) -> subprocess.CompletedProcess[str]:
    named = [word for name, file in zip(('--old', '--new'), files, strict=False)
             for word in (name, str(file))]
    return subprocess.run([sys.executable, str(ROOT / 'benchmarks/compare.py'), *named],
                          capture_output=True, text=True)


def test_compare_names_what_got_slower(tmp_path: Path) -> None:
    def write(name: str, cpu: list[float], latency: list[float]) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps({
            'machine': {'cpu': name}, 'options': {}, 'figures': {
                'a node @ 5 Hz': [{'cpu': one, 'latency p50': other}
                                  for one, other in zip(cpu, latency, strict=True)], name: []}}))
        return path
    old, new = write('old.json', [5, 6], [9, 10]), write('new.json', [7, 8], [9.5, 11])
    done = compare(old, new)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f'{old} -> {new}', 'the two differ in machine: cpu; compare them with care',
        '1 figures are worse beyond the range of their runs',
        '  a node @ 5 Hz: cpu 5.5 -> 7.5 ms/frame (+36%); 5 to 6 before, 7 to 8 now',
        '0 figures are better beyond the range of their runs']
    assert compare(new, old).returncode == 0
    (tmp_path / 'none.json').write_text('[]')
    for files in (old, tmp_path / 'none.json'), (tmp_path / 'missing.json', new):
        refused = compare(*files)
        assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
        assert refused.stderr.startswith('bench-compare: expected')


def test_committed_figures_are_those_of_the_same_kind_of_machine(tmp_path: Path) -> None:
    def run(cpu: str, quick: bool) -> dict[str, Any]:
        return {'machine': {'cpu': cpu, 'cores': 2, 'python': str(quick)},
                'options': {'quick': quick}, 'figures': {}}
    for name, content in (('a', run('one', False)), ('b', run('one', True)),
                          ('c', run('two', False)), ('profile', {'machine': {}})):
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    for content, expected in ((run('one', False), 'a'), (run('one', True), 'b'),
                              (run('two', True), 'c')):
        assert committed(content, tmp_path).stem == expected
    with pytest.raises(SystemExit, match='expected committed figures of cpu three, .*cpu one'):
        committed(run('three', True), tmp_path)
    with pytest.raises(SystemExit, match='make bench'):
        last_run(tmp_path)


@pytest.fixture(scope='module')
def domain() -> Iterator[int]:
    with own_domain() as number:
        yield number


def run_bench(domain: int, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it as in a shell where the settings are exported that the README names."""
    return subprocess.run(
        [sys.executable, str(ROOT / 'benchmarks/bench.py'), '--quick', '--out', str(out),
         *options], capture_output=True, text=True, timeout=300,
        env={**os.environ, **environment(), 'ROS_DOMAIN_ID': str(domain)})


@pytest.mark.parametrize('program, is_ours', [
    ('vl2v_ros', True), ('bare subscriber', True),
    ('peer', False), ('peer, text per frame', False)])
@pytest.mark.parametrize('distribution', ['jazzy', 'kilted'])
def test_transport_settings_of_the_user_change_nothing(
        program: str, is_ours: bool, distribution: str) -> None:
    bare = {'PATH': '/bin', 'ROS_DISTRO': distribution}
    ours = environment(bare)
    users = dict.fromkeys(ours, 'own') | {PROFILE: 'own.xml', OLDER_PROFILE: 'own.xml',
                                          'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}
    for current in bare, bare | users, bare | ours:
        assert environment_of(Setup(program), current) == bare | (ours if is_ours else {})


def test_a_part_of_it_for_real(domain: int, tmp_path: Path) -> None:
    out = tmp_path / 'bench.json'
    done = run_bench(domain, out, '--only', 'stages')
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result['machine']['cores'] and result['machine']['versions']['torch']
    profile = result['profiles']['vl2v_ros, 1280x720 raw']
    assert profile['frames'] > 50 and profile['stages']['model']['p50'] > 0, result
    for name, found in result['profiles'].items():  # 57: 95 % of those that are sent
        assert found['frames'] >= 57 or any(name in note for note in result['notes'])
    assert {path.name for path in tmp_path.iterdir()} == {
        'bench.json', 'bench.md', *(f'bench_{name}.png' for name in (
            'growth', 'highest', 'latency', 'stages'))}
    assert 'not measured' in out.with_suffix('.md').read_text()
    before = out.stat().st_mtime_ns
    again = run_bench(domain, out, '--only', 'stages')  # nothing is left to do
    assert again.returncode == 0 and out.stat().st_mtime_ns == before
    assert 'remove it or name another --out' in again.stderr


def test_somebody_else_on_its_topics_is_said_and_the_rest_goes_on(
        ros: Ros, tmp_path: Path) -> None:
    ros.offer(Image, '/bench/image')
    done = run_bench(ros.node.context.get_domain_id(), tmp_path / 'bench.json', '--only',
                     'one camera')
    assert done.returncode == 0, done.stderr
    note = json.loads((tmp_path / 'bench.json').read_text())['notes'][-1]
    assert note.endswith('/peer publishes on /bench/image already; stop it, or set another '
                         'ROS_DOMAIN_ID')
    assert note in done.stderr
