"""The pages for readers: links lead somewhere, and what is said of rooms and files is so."""
import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
import re
from xml.etree import ElementTree

import pytest
from test_layering import CORE, LEAVES, RECIPE, ROOMS, WITH_ROS

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / 'docs/architecture.md'
PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').rglob('*.md')])
PICTURES = sorted((ROOT / 'docs/images').glob('*.svg'))
FILE = re.compile(r'[\w./-]+/[\w-]+\.(?:py|msg|srv|yaml|safetensors)')


def headings(page: Path) -> set[str]:
    """Return the anchors that a host gives the headings of a page."""
    text = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.M | re.S)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).strip().replace(' ', '-')
            for heading in re.findall(r'^#+ (.*)', text, re.M)}


def broken(page: Path) -> list[str]:
    """Return the links of a page into this repository that lead nowhere."""
    found = []
    for target, anchor in re.findall(r'\]\(([^):#]*)(?:#([^)]*))?\)', page.read_text('utf-8')):
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in headings(path)):
            found.append(f'{target}#{anchor}' if anchor else target)
    return found


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('# A `b`, c\n[one](#a-b-c) [two](#d) ![three](x.png) [four](https://x.y)\n')
    assert broken(page) == ['#d', 'x.png']


def unknown_imports(page: Path) -> list[str]:
    """Return what the Python on a page imports of this repository that is not there."""
    blocks = re.findall(r'^```python\n(.*?)^```', page.read_text('utf-8'), re.M | re.S)
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))
             if isinstance(node, ast.ImportFrom) and str(node.module).startswith('vl2v_ros')]
    return [f'{node.module}.{alias.name}' for node in nodes for alias in node.names
            if not hasattr(import_module(str(node.module)), alias.name)
            and not find_spec(f'{node.module}.{alias.name}')]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_what_pages_import_is_there(page: Path) -> None:
    assert unknown_imports(page) == []


def test_imports_of_what_is_not_there_are_found(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('```python\nfrom vl2v_ros import Labeller, other\nfrom x import y\n```\n')
    assert unknown_imports(page) == ['.'.join(('vl2v_ros', 'other'))]


def test_site_has_all_pages() -> None:
    listed = re.findall(r'^(?:.*<)?([\w/]+)>?$', (ROOT / 'docs/index.md').read_text('utf-8'), re.M)
    pages = {page.relative_to(ROOT / 'docs').with_suffix('').as_posix()
             for page in PAGES if ROOT / 'docs' in page.parents} - {'index'}
    assert pages - set(listed) == set()


def exists(name: str) -> bool:
    """Return whether a file is there, by its path or by that below one of the two packages."""
    return any((ROOT / folder / name).is_file() for folder in ('', 'vl2v_ros', 'training'))


def test_files_on_the_architecture_page_are_there() -> None:
    named = FILE.findall(ARCHITECTURE.read_text(encoding='utf-8'))
    assert len(named) > 40
    assert [name for name in named if not exists(name)] == []


def test_files_of_the_map_are_there() -> None:
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (`[^|]*) \| [^|]* \| ([^|]*) \|$',
                      text.partition('## Where things are')[2].partition('\n## ')[0], re.M)
    assert len(rows) > 15
    for where, examples in rows:
        folders = re.findall(r'`([^`]*)`', where)
        assert [name for name in folders if not (ROOT / name).is_dir()] == []
        for name in re.findall(r'`([\w./]+\.\w+)`', examples):
            assert any((ROOT / folder / name).is_file() for folder in ('', *folders)), name


def test_table_of_rooms_is_that_of_the_layering() -> None:
    sets = {'leaves': LEAVES, 'core': CORE, 'recipe': RECIPE}
    rows = re.findall(r'^\| `([\w.]+)` \| [^|]* \| ([^|]*)\|$', ARCHITECTURE.read_text('utf-8'),
                      re.M)
    assert [name for name, _ in rows] == [*ROOMS]
    for name, said in rows:
        words = set(filter(None, said.strip().split(', ')))
        assert ('ROS' in words) == (name in WITH_ROS), name
        wing = 'training' if name.startswith('training') else 'vl2v_ros'
        allowed = set().union(*(sets.get(word) or {f'{wing}.{word}'} for word in words - {'ROS'}))
        assert allowed - {name} == ROOMS[name] - {name}, name


def texts(picture: Path) -> list[str]:
    """Return what is written in a picture, piece by piece."""
    root = ElementTree.parse(picture).getroot()
    assert not [node.tag for node in root.iter() if node.tag.endswith('script')]
    return [node.text for node in root.iter()
            if node.tag.endswith(('text', 'tspan')) and node.text]


def test_picture_has_all_rooms() -> None:
    assert ROOMS.keys() - set(texts(ROOT / 'docs/images/rooms.svg')) == set()


@pytest.mark.parametrize('picture', PICTURES, ids=lambda picture: picture.name)
def test_files_in_pictures_are_there(picture: Path) -> None:
    named = [text for text in texts(picture) if re.fullmatch(r'[\w./]+\.py', text)]
    assert [name for name in named if not exists(name)] == []
