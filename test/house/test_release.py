"""What a release says of itself; the slow rest is `make release-check`."""
from pathlib import Path
import re
import runpy
import sys
from types import SimpleNamespace

import pytest
import setuptools
from test_layering import FILES, imports, is_ros

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip('catkin_pkg')
pytestmark = pytest.mark.filterwarnings('ignore:nodes.Node.traverse:DeprecationWarning')
CHECK = SimpleNamespace(**runpy.run_path(str(ROOT / 'tools/release_check.py')))
# Where the package that brings a module has another name.
BROUGHT_BY = {'cv2': 'opencv-python', 'PIL': 'pillow', 'open_clip': 'open_clip_torch',
              'pydantic': 'mcp', 'yaml': 'PyYAML'}
CHANGELOG = """\
^^^^^^^^^^^^^^^^^^^^^^^
Changelog for package a
^^^^^^^^^^^^^^^^^^^^^^^

Forthcoming
-----------
* One, by ``b``:

  * with parts.
* Two.

0.1.0 (2026-11-27)
------------------
* First version.
"""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Return what setup.py tells setuptools."""
    found: dict = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **words: found.update(words))
    monkeypatch.chdir(ROOT)
    runpy.run_path('setup.py')
    return found


def test_manifests_and_changelogs_are_as_bloom_wants_them(said: dict, tmp_path: Path) -> None:
    version = said['version']
    assert CHECK.manifests(tmp_path) == f'vl2v_ros {version}, vl2v_msgs {version}'
    assert re.fullmatch(r'vl2v_ros: \d+ entries, vl2v_msgs: \d+ entries',
                        CHECK.changelogs(tmp_path))


def test_the_version_stands_in_package_xml_alone(said: dict) -> None:
    assert re.fullmatch(r'\d+\.\d+\.\d+', said['version'])
    for path in ('setup.py', 'setup.cfg', 'pyproject.toml', 'vl2v_ros/__init__.py'):
        assert said['version'] not in (ROOT / path).read_text()


def test_what_is_imported_is_required(said: dict) -> None:
    names = {name.partition('.')[0] for path in FILES if path.parts[0] in ('vl2v_ros', 'launch')
             for name in imports((ROOT / path).read_text(), '.'.join(path.parent.parts))}
    others = names - {'vl2v_ros', *sys.stdlib_module_names}
    extras = said['extras_require']
    listed = [*said['install_requires'], *extras['mcp'], *extras['onnx']]
    assert {BROUGHT_BY.get(name, name) for name in others if not is_ros(name)} == {
        re.match(r'[\w-]+', line)[0] for line in listed}
    package = CHECK.manifest(ROOT / 'package.xml')
    assert {name for name in others if is_ros(name)} <= {
        depend.name for depend in package.exec_depends}


def test_a_changelog_is_counted_as_it_will_be_released() -> None:
    assert CHECK.check_changelog(CHANGELOG, 'a', '0.2.0') == 2
    released = CHANGELOG.replace('Forthcoming\n-----------', '0.2.0 (2026-12-01)\n' + '-' * 18)
    assert CHECK.check_changelog(released, 'a', '0.2.0') == 2
    assert CHECK.check_changelog(released, 'a', '0.1.0') == 1


@pytest.mark.parametrize('old, new, expected', [
    ('Forthcoming\n-----------\n', '', 'has no section Forthcoming or 0.2.0'),
    ('Forthcoming\n-----------\n', '0.2.0 (soon)\n------------\n', 'has no section Forthcoming'),
    ('``b``', '``b`', 'cannot be read: .*literal'),
    ('* One', 'One', 'cannot be read'),
    ('-----------\n* One', '---\n* One', 'cannot be read'),
    ('package a', 'package b', 'expected the title'),
    ('0.1.0 (2026-11-27)', 'Forthcoming, twice', 'multiple forthcoming'),
])
def test_a_changelog_that_bloom_cannot_use_is_refused(old: str, new: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        CHECK.check_changelog(CHANGELOG.replace(old, new), 'a', '0.2.0')


@pytest.mark.parametrize('old, new, expected', [
    ('format="3"', 'format="2"', 'must not have .* file'),
    ('0.1', '0.1.x', 'version'),
    ('<url type="bugtracker">', '<url type="website">', 'bugtracker'),
    ('<author>', '<author email="nobody">', 'email'),
    ('file="LICENSE"', 'file="COPYING"', 'licence file COPYING'),
    ('<depend>rclpy</depend>', '<depends>rclpy</depends>', 'depends'),
])
def test_a_manifest_that_bloom_cannot_use_is_refused(tmp_path: Path, old: str, new: str,
                                                     expected: str) -> None:
    path = tmp_path / 'package.xml'
    (tmp_path / 'LICENSE').touch()
    text = (ROOT / 'package.xml').read_text()
    path.write_text(text)
    CHECK.manifest(path)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=expected):
        CHECK.manifest(path)


def test_addresses_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    text = (ROOT / 'package.xml').read_text()
    for address, found in (('robots.org', 0), ('robots.example', 3), ('example.com', 3),
                           ('my-example.com', 0), ('git.test', 3)):
        (tmp_path / 'package.xml').write_text(
            re.sub(r'(?<=@)[\w.-]+|(?<=//)[\w.-]+(?=/vl2v)', address, text))
        (tmp_path / 'LICENSE').touch()
        assert len(CHECK.nowhere(CHECK.manifest(tmp_path / 'package.xml'))) == found


def test_what_fails_is_one_line_and_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match='1 of 2 checks failed'):
        CHECK.main(['changelogs', 'installation'])
    ok, failed = capsys.readouterr().out.splitlines()
    assert ok.startswith('ok    changelogs: vl2v_ros: ')
    assert failed == 'FAIL  installation: no wheel was built'
