"""What a browser would find in an HTML file."""
import base64
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
import re
from xml.etree import ElementTree

import cv2
import numpy as np


class View(HTMLParser):
    """The elements of a file, its texts, rows of tables, pictures and figures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding='utf-8')
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []  # of all tables, cell by cell
        self._in_cell = False
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_cell |= tag in {'td', 'th'}
        if tag == 'tr':
            self.rows.append([])
        elif tag in {'td', 'th'}:
            self.rows[-1].append('')

    def handle_endtag(self, tag: str) -> None:
        self._in_cell &= tag not in {'td', 'th'}

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] != 'style' and data.strip():
            self.texts.append(' '.join(data.split()))
        if self._in_cell:
            self.rows[-1][-1] = ' '.join(f'{self.rows[-1][-1]} {data}'.split())

    def named(self, tag: str, kind: str = '') -> list[dict[str, str | None]]:
        """Return the attributes of the elements of a tag, or only of those of a class."""
        return [attributes for name, attributes in self.elements if name == tag
                and (not kind or kind in (attributes.get('class') or '').split())]

    def pictures(self) -> Iterator[np.ndarray]:
        for attributes in self.named('img') + self.named('image'):
            address = attributes.get('src') or attributes['href']
            kind, _, data = address.partition(';base64,')
            assert kind in {'data:image/jpeg', 'data:image/png'}
            yield cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8),
                               cv2.IMREAD_UNCHANGED)

    def figures(self) -> dict[str, ElementTree.Element]:
        found = [ElementTree.fromstring(figure)  # which refuses what is not well-formed
                 for figure in re.findall(r'<svg.*?</svg>', self.source, re.DOTALL)]
        assert len(found) == len(self.named('svg'))
        return {figure.get('aria-label'): figure for figure in found}

    def assert_closed(self) -> None:
        """Check that it fetches nothing and runs nothing."""
        assert not self.named('script') + self.named('link') + self.named('iframe')
        assert 'http://' not in self.source and 'https://' not in self.source
        for _, attributes in self.elements:
            assert not [name for name in attributes if name.startswith('on')]
            for name in {'src', 'href', 'xlink:href', 'srcset'} & attributes.keys():
                assert attributes[name].startswith(('#', 'data:image/'))
        assert "default-src 'none'" in self.named('meta')[-1]['content']
