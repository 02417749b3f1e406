"""Prompts whose embeddings are kept on disk, so that each is encoded once."""
from collections.abc import Callable, Sequence
import json
import logging
import os
from pathlib import Path
import sqlite3

import numpy as np
from vl2v_ros.text import BATCH, ClipText, identify, TextEmbeddings, TextEncoder, TextTower

logger = logging.getLogger(__name__)


class CachedText:
    """
    A text tower that is loaded only for prompts never seen before.

    The cache is one SQLite file, keyed by tower identity and prompt, shared by all processes.
    When it cannot be used, a warning says so and prompts are encoded each time.
    """

    def __init__(self, identity: str, width: int, load: Callable[[], TextEncoder],
                 cache_dir: Path) -> None:
        """
        Do nothing yet but remember where things are.

        :param identity: of the tower, see `identify`.
        :param width: D the embeddings must have.
        :param load: makes the tower when it is needed.
        :param cache_dir: folder of the cache, made when first written.
        """
        self.identity, self.width = identity, width
        self._load, self._path = load, cache_dir / 'prompts.sqlite'
        self._encoder: TextEncoder | None = None

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """
        Embed N prompts, from the cache where they are in it.

        :raises ValueError: if the tower cannot be loaded or has another width.
        """
        known = self._read(prompts)
        missing = list(dict.fromkeys(prompt for prompt in prompts if prompt not in known))
        for start in range(0, len(missing), BATCH):
            part = missing[start:start + BATCH]
            fresh = self._tower().encode(part)
            encoded = dict(zip(part, zip(fresh.rows, fresh.truncated.tolist())))
            self._write(encoded)
            known.update(encoded)
        rows = np.empty((len(prompts), self.width), np.float32)
        for row, prompt in zip(rows, prompts):
            row[:] = known[prompt][0]
        return TextEmbeddings(rows, np.array([known[prompt][1] for prompt in prompts], bool))

    def _tower(self) -> TextEncoder:
        if self._encoder is None:
            encoder = self._load()
            if encoder.width != self.width:
                raise ValueError(f'text tower {self.identity}: expected width {self.width}, which '
                                 f'the student has, got {encoder.width}; use the text tower the '
                                 'student was distilled with')
            self._encoder = encoder
        return self._encoder

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=10)
        connection.execute('CREATE TABLE IF NOT EXISTS prompts (tower TEXT, prompt TEXT, '
                           'embedding BLOB, truncated INTEGER, PRIMARY KEY (tower, prompt))')
        return connection

    def _read(self, prompts: Sequence[str]) -> dict[str, tuple[np.ndarray, bool]]:
        known = {}
        try:
            connection = self._connect()
            try:
                for prompt in prompts:
                    found = connection.execute(
                        'SELECT embedding, truncated FROM prompts WHERE tower = ? AND prompt = ?',
                        (self.identity, prompt)).fetchone()
                    if found and len(found[0]) == 4 * self.width:
                        known[prompt] = np.frombuffer(found[0], np.float32), bool(found[1])
            finally:
                connection.close()
        except (OSError, sqlite3.Error) as error:
            logger.warning('prompt cache %s is not used: %s; delete it if it is damaged',
                           self._path, error)
        return known

    def _write(self, encoded: dict[str, tuple[np.ndarray, bool]]) -> None:
        try:
            connection = self._connect()
            try:
                with connection:
                    connection.executemany(
                        'INSERT OR REPLACE INTO prompts VALUES (?, ?, ?, ?)',
                        [(self.identity, prompt, row.tobytes(), truncated)
                         for prompt, (row, truncated) in encoded.items()])
            finally:
                connection.close()
        except (OSError, sqlite3.Error) as error:
            logger.warning('prompt cache %s is not written: %s', self._path, error)


def default_cache_dir() -> Path:
    """Return $XDG_CACHE_HOME/vl2v_ros, by default ~/.cache/vl2v_ros."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'vl2v_ros'


def open_text_tower(tower: TextTower, width: int, folder: Path, cache_dir: Path) -> CachedText:
    """
    Return the cached encoder for a student of the given width.

    :param folder: where local files are looked up.
    :raises ValueError: at once, if a local config says another width.
    """
    if tower.is_local and (folder / tower.model).is_file():
        try:
            config = json.loads((folder / tower.model).read_text())
            found = (config['model_cfg'] if 'model_cfg' in config else config)['embed_dim']
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'text tower: expected an open_clip config with embed_dim in '
                             f'{folder / tower.model}, got {error!r}') from error
        if found != width:
            raise ValueError(f'text tower {folder / tower.model}: expected width {width}, which '
                             f'the student has, got {found}; use the text tower the student was '
                             'distilled with')
    identity = tower.identity or identify(tower, folder)
    return CachedText(identity, width, lambda: ClipText(tower, folder), cache_dir)
