"""
The site that `make docs` builds with Sphinx: README.md, the pages of docs/ and all docstrings.

Modules are read, not imported, so that neither ROS nor torch is needed.
"""
import os
from pathlib import Path
import re

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
LINK = re.compile(r'\[([^]]+)\]\(([^):#]+)(#[^)]*)?\)')  # into this repository
PAGES = {ROOT / 'README.md': 'index.md', ROOT / 'CONTRIBUTING.md': 'contributing.md'}
CODE = 'python ', 'torchrun ', 'from ', 'print(', 'GET ', 'POST '  # begins lines shown as they are
FIELD = re.compile(r'([a-z]\w*(?:, [a-z]\w*)*): ')  # 'labels: the k most similar'
QUOTED = re.compile(r'``(.+?)``|`([^`]+)`')

project = 'vl2v_ros'
copyright = 'vl2v_ros maintainers'  # noqa: A001 Sphinx calls it so
extensions = ['myst_parser', 'autoapi.extension']
exclude_patterns = ['requirements.txt']
# Constants imported from other modules are listed there; what is no shell is shown plainly.
suppress_warnings = ['autoapi.python_import_resolution', 'misc.highlighting_failure']
myst_heading_anchors = 4
highlight_language = 'sh'
smartquotes = False
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
html_theme = 'furo'
html_title = 'vl2v_ros'
html_static_path = ['site.css']
html_css_files = ['site.css']

autoapi_dirs = ['../vl2v_ros', '../training']
autoapi_root = 'api'
autoapi_options = ['members', 'undoc-members']
autoapi_member_order = 'bysource'
autoapi_python_class_content = 'both'  # a class and its constructor
autoapi_add_toctree_entry = False


def relink_page(app: Sphinx, docname: str, content: list[str]) -> None:
    """Let the links of a page lead to what there is on the site, in place."""
    folder, space = (DOCS / docname).parent, '\N{NO-BREAK SPACE}'
    # A mean and its deviation stay on one line of a table's cell.
    content[0] = _relinked(content[0], folder, folder).replace(' ± ', f'{space}±{space}')


def relink_included(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Do the same for a file above docs/ that a page of docs/ is made of."""
    content[0] = _relinked(content[0], (DOCS / path).resolve().parent, DOCS)


def _relinked(text: str, there: Path, here: Path) -> str:
    def replaced(link: re.Match[str]) -> str:
        path = (there / link[2]).resolve()
        if path.is_dir():  # a site has no page of a folder
            return link[1]
        target = os.path.relpath(DOCS / PAGES.get(path, path), here)
        return f'[{link[1]}]({target}{link[3] or ""})'
    return LINK.sub(replaced, text)


def to_rst(app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]
           ) -> None:
    """
    Make reStructuredText of a docstring, in place.

    Docstrings are plain text for whoever reads the code or asks for --help. What they have of
    markup is backticks, `:param` fields, lists with '- ', and of a class its fields, one a line.
    """
    paragraphs = '\n'.join(lines).split('\n\n')
    lines[:] = '\n\n'.join(_paragraph(text, kind in ('class', 'exception'))
                           for text in paragraphs).split('\n')


def _paragraph(told: str, of_class: bool) -> str:
    if told.startswith(CODE):
        return '::\n\n' + '\n'.join(f'    {line}' for line in told.split('\n'))
    text, end = '', 0
    for quoted in QUOTED.finditer(told):
        text += f'{_escaped(told[end:quoted.start()])}``{quoted[1] or quoted[2]}``'
        end = quoted.end()
    text += _escaped(told[end:])
    if not of_class or not FIELD.match(text):
        return text
    return '\n'.join(f'- **{field[1]}**: {line[field.end():]}' if (field := FIELD.match(line))
                     else f'  {line}' for line in text.split('\n'))


def _escaped(text: str) -> str:
    return re.sub(r'([*|\\]|_\b)', r'\\\1', text)


def setup(app: Sphinx) -> None:
    """Connect what is done to pages and to docstrings."""
    app.connect('source-read', relink_page)
    app.connect('include-read', relink_included)
    app.connect('autodoc-process-docstring', to_rst)
