"""
Check what a release needs, a line per check; exit with 1 if one fails: make release-check.

Manifests and changelogs are read by the library by which bloom reads them. The wheel is built from
the files that git knows, and installed into an empty environment with what a CPU needs to label by
known words. The commands then run there, in another folder, without ROS, torch and a network.
Needs git, and a package registry for pip.
"""
from collections.abc import Callable, Sequence
from importlib.metadata import PathDistribution
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from tempfile import TemporaryDirectory
from zipfile import Path as ZipPath
from zipfile import ZipFile

from catkin_pkg.changelog import BulletList, Changelog, populate_changelog_from_rst
from catkin_pkg.cli.tag_changelog import get_forthcoming_label, rename_section
from catkin_pkg.package import InvalidPackage, Package, parse_package
from docutils.core import publish_doctree
from docutils.utils import SystemMessage
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT, ROOT / 'vl2v_msgs'
MOST_BYTES = 30_000_000  # of the wheel
# Top-level domains that lead nowhere, see RFC 2606.
NOWHERE = re.compile(r'(\.(example|invalid|localhost|test)|(^|[.@/])example\.(com|net|org))$')
LICENCES = {'LICENSE', 'NOTICE'}
NOT_SHIPPED = {'benchmarks', 'distill', 'docs', 'mini', 'test', 'tests', 'training'}
# What only GPUs, words that nobody recorded, and language models need, and whatever that brings.
LATER = {'huggingface-hub', 'open-clip-torch', 'openai', 'timm', 'torch'}
LABELS = 'banana, mug, power drill'
PICTURES = {'011_banana': 'banana', '035_power_drill': 'power drill'}


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return what a command prints; raises ValueError with its last line if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or 'nothing').splitlines()[-1]
        raise ValueError(f'`{" ".join([Path(words[0]).name, *words[1:]])}` ended with '
                         f'{done.returncode}: {said}')
    return done.stdout


def manifest(path: Path) -> Package:
    """Return what a package.xml says; raises ValueError for what a release would stumble over."""
    warnings: list[str] = []
    try:
        package = parse_package(str(path), warnings=warnings)
    except InvalidPackage as error:
        raise ValueError(f'{path}: {error}') from error
    if lacking := {'bugtracker', 'repository'} - {url.type for url in package.urls}:
        warnings.append(f'expected a <url type="{min(lacking)}">, found none')
    if not package.authors:
        warnings.append('expected an <author>, found none')
    warnings += [f'expected the licence file {licence.file}, found none'
                 for licence in package.licenses
                 if licence.file and not (path.parent / licence.file).is_file()]
    if warnings:
        raise ValueError(f'{path}: {"; ".join(warnings)}')
    return package


def nowhere(package: Package) -> list[str]:
    """Return the addresses of a package that stand for none."""
    said = [*(person.email for person in package.maintainers), *(url.url for url in package.urls)]
    return [address for address in said
            if NOWHERE.search(re.sub(r'^(\w+://[^/]+)/.*', r'\1', address))]


def check_changelog(text: str, name: str, version: str) -> int:
    """
    Return how many entries a changelog has for a version, or for the next one.

    :raises ValueError: for one that bloom cannot read, or without such entries.
    """
    try:
        publish_doctree(text, settings_overrides={'halt_level': 2, 'warning_stream': False})
        label = get_forthcoming_label(text)
        if label:
            text = rename_section(text, label, f'{version} (2000-01-01)')
        changelog = populate_changelog_from_rst(Changelog(name), text)
        content = changelog.get_content_of_version(version)
    except (SystemMessage, RuntimeError) as error:
        raise ValueError(f'the changelog of {name} cannot be read: {error}') from error
    except KeyError:
        raise ValueError(f'the changelog of {name} has no section Forthcoming or {version} '
                         '(YYYY-MM-DD)') from None
    entries = sum(len(part.bullets) for part in content if isinstance(part, BulletList))
    if f'Changelog for package {name}\n' not in text or not entries:
        raise ValueError(f'expected the title `Changelog for package {name}` and a list of '
                         f'changes, found {entries} entries')
    return entries


def manifests(folder: Path) -> str:
    """Check both package.xml files, and that they have one version."""
    found = [manifest(path / 'package.xml') for path in PACKAGES]
    versions = {package.version for package in found}
    if len(versions) > 1:
        raise ValueError(f'expected one version in both package.xml, got {sorted(versions)}')
    return ', '.join(f'{package.name} {package.version}' for package in found)


def addresses(folder: Path) -> str:
    """Check that the maintainers can be reached."""
    found = [manifest(path / 'package.xml') for path in PACKAGES]
    if lost := sorted({address for package in found for address in nowhere(package)}):
        raise ValueError(f'{", ".join(lost)} lead nowhere; write the address of the public '
                         'repository, and of its maintainers, into both package.xml')
    return ', '.join(url.url for url in found[0].urls)


def changelogs(folder: Path) -> str:
    """Check both changelogs."""
    found = {path: manifest(path / 'package.xml') for path in PACKAGES}
    return ', '.join(f'{package.name}: ' + str(check_changelog(
        (path / 'CHANGELOG.rst').read_text('utf-8'), package.name, package.version)) + ' entries'
        for path, package in found.items())


def tracked() -> list[str]:
    """Return the files that git knows and that are there."""
    names = run('git', 'ls-files', '-z', cwd=ROOT).split('\0')
    return [name for name in names if (ROOT / name).is_file()]


def build(folder: Path) -> str:
    """Build the wheel from a copy of what git knows: nothing private, nothing left behind."""
    for name in tracked():
        (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / 'source' / name)
    run(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '-w', folder, '.',
        cwd=folder / 'source', env=outside())
    path = wheel(folder)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f'{path.name}: expected at most {MOST_BYTES / 1e6:.0f} MB, got '
                         f'{path.stat().st_size / 1e6:.1f}')
    return f'{path.name}, {path.stat().st_size / 1e6:.1f} MB'


def wheel(folder: Path) -> Path:
    """Return the wheel that was built; raises ValueError if none was."""
    if not (found := list(folder.glob('*.whl'))):
        raise ValueError('no wheel was built')
    return found[0]


def contents(folder: Path) -> str:
    """Check what is in the wheel, and what it says of itself."""
    path, package = wheel(folder), manifest(ROOT / 'package.xml')
    with ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith('/')}
        about = PathDistribution(ZipPath(archive, metadata_folder(names))).metadata
    code = {name for name in names if name.startswith('vl2v_ros/')}
    expected = {name for name in tracked() if name.startswith('vl2v_ros/')}
    if code != expected:
        raise ValueError(f'expected the modules of vl2v_ros/, got other: {code ^ expected}')
    if strange := [name for name in names if NOT_SHIPPED & set(Path(name).parts[1:])]:
        raise ValueError(f'expected no {", ".join(sorted(NOT_SHIPPED))}, got {min(strange)}')
    if lacking := LICENCES - {Path(name).name for name in names if '.dist-info/' in name}:
        raise ValueError(f'expected licence files, found no {min(lacking)}')
    if about['Version'] != package.version:
        raise ValueError(f'expected version {package.version}, got {about["Version"]}')
    return f'{len(names)} files, of them {len(code)} modules'


def metadata_folder(names: set[str]) -> str:
    """Return the folder of a wheel that says what it is."""
    return next(name.partition('/')[0] + '/' for name in names if name.endswith('/METADATA'))


def outside() -> dict[str, str]:
    """Return an environment in which this checkout, its .venv and ROS are not found."""
    unwanted = ('PYTHON', 'AMENT_', 'COLCON_', 'CMAKE_', 'ROS_', 'LD_LIBRARY_PATH', 'VIRTUAL_ENV')
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def needed(path: Path) -> list[str]:
    """Return what the wheel requires, without what a CPU needs only for other words."""
    with ZipFile(path) as archive:
        said = PathDistribution(ZipPath(archive, metadata_folder(set(archive.namelist()))))
        wanted = [Requirement(line) for line in said.requires or []]
    return [str(each) for each in wanted if canonicalize_name(each.name) not in LATER and (
        each.marker is None or each.marker.evaluate({'extra': ''}))]


def install(folder: Path) -> str:
    """Install the wheel into an empty environment."""
    path = wheel(folder)
    run(sys.executable, '-m', 'venv', folder / 'venv', cwd=folder, env=outside())
    pip = [folder / 'venv/bin/python', '-m', 'pip', '--disable-pip-version-check', 'install', '-q']
    run(*pip, '-c', ROOT / 'constraints.txt', *needed(path), cwd=folder, env=outside())
    run(*pip, '--no-deps', path, cwd=folder, env=outside())
    elsewhere = folder / 'elsewhere'
    elsewhere.mkdir()
    for name, label in PICTURES.items():
        shutil.copy(ROOT / f'data/ycb_sample/single/dim/{name}/00000.jpg',
                    elsewhere / f'{label}.jpg')
    lacking = ('from importlib.util import find_spec; '
               'print([name for name in ("rclpy", "torch") if find_spec(name)])')
    found = run(folder / 'venv/bin/python', '-c', lacking, cwd=elsewhere, env=outside()).strip()
    if found != '[]':
        raise ValueError(f'expected an environment without ROS and torch, found {found}')
    size = sum(file.stat().st_size for file in (folder / 'venv').rglob('*') if file.is_file())
    return f'{size / 1e6:.0f} MB with {len(needed(path))} requirements, without ROS and torch'


def command(folder: Path, name: str, *arguments: object) -> str:
    """Return what a command of the wheel prints, in a folder of pictures with an empty home."""
    home = {'HOME': str(folder / 'home'), 'XDG_CACHE_HOME': str(folder / 'home'),
            'HF_HUB_OFFLINE': '1'}
    return run(folder / 'venv/bin' / name, *arguments, cwd=folder / 'elsewhere',
               env=outside() | home)


def classify(folder: Path) -> str:
    """Check that the installed command names what pictures show."""
    for label in PICTURES.values():
        said = command(folder, 'vl2v_classify', f'{label}.jpg', '--labels', LABELS)
        if said.splitlines()[0] != f'{label}.jpg: {label}':
            raise ValueError(f'{label}.jpg: expected {label}, got {said.splitlines()[0]}')
    command(folder, 'vl2v_classify', '.', '--out', 'labels.csv')  # by the shipped vocabulary
    return f'{" and ".join(PICTURES.values())} are named'


def find(folder: Path) -> str:
    """Check that the installed command finds the right picture."""
    for label in PICTURES.values():
        first = command(folder, 'vl2v_find', '.', label).splitlines()[1]
        if not first.endswith(f'{label}.jpg'):
            raise ValueError(f'{label}: expected {label}.jpg, got {first}')
    return f'{" and ".join(PICTURES.values())} are found'


def bundle(folder: Path) -> str:
    """Check that the installed command makes a bundle with the licences in it."""
    said = command(folder, 'vl2v_bundle', '--out', 'robot').splitlines()[-1]
    command(folder, 'vl2v_bundle', '--check', 'robot')
    text = (folder / 'elsewhere/robot/LICENCES.txt').read_text('utf-8')
    if lacking := [name for name in LICENCES if f'---- {name} of vl2v_ros' not in text]:
        raise ValueError(f'LICENCES.txt: expected the text of {min(lacking)}, found none')
    return said


Check = Callable[[Path], str]
CHECKS: dict[str, Check] = {
    'package.xml': manifests, 'addresses': addresses, 'changelogs': changelogs, 'wheel': build,
    'contents': contents, 'installation': install, 'vl2v_classify': classify, 'vl2v_find': find,
    'vl2v_bundle': bundle,
}


def passes(name: str, folder: Path) -> bool:
    """Do a check and print its line; what fails does not keep the others from being tried."""
    try:
        print(f'ok    {name}: {CHECKS[name](folder)}', flush=True)
        return True
    except (OSError, ValueError) as error:
        print(f'FAIL  {name}: {" ".join(str(error).split())}', flush=True)
        return False


def main(names: Sequence[str]) -> None:
    """Do the checks, or those that are named."""
    with TemporaryDirectory() as folder:
        good = [passes(name, Path(folder)) for name in names or CHECKS]
    if not all(good):
        sys.exit(f'release-check: {good.count(False)} of {len(good)} checks failed')


if __name__ == '__main__':
    main(sys.argv[1:])
