"""Prompts whose embeddings are cached on disk, so that each is encoded once."""
from collections.abc import Callable, Sequence
from functools import cached_property
import logging
import os
from pathlib import Path
import threading

import numpy as np
from vl2v_ros.files import brief, one_line, read_json
from vl2v_ros.sqlite_table import SqliteTable
from vl2v_ros.words import hub, recording
from vl2v_ros.words.clip_text import BATCH, ClipText
from vl2v_ros.words.encoder import identify, TextEmbeddings, TextEncoder, TextTower
from vl2v_ros.words.recording import Recording

logger = logging.getLogger(__name__)


class NoTower(ValueError):
    """
    Some prompts are neither recorded nor cached, and the text tower is not available.

    reason, advice: why it is not available, and what to do.
    encoder: knows which prompts are recorded or cached.
    """

    def __init__(self, prompts: Sequence[str], why: hub.NotAtHand, encoder: 'CachedText') -> None:
        """Store the reason; the message names the first prompts."""
        super().__init__(f'{", ".join(map(repr, prompts[:3]))} cannot be encoded: {why}')
        self.reason, self.advice, self.encoder = why.reason, why.advice, encoder


class CachedText:
    """
    A text tower that is loaded only for prompts that were never encoded before.

    Embeddings come from the recording first, then from the cache: one SQLite file, keyed by the
    identity of the text tower and the prompt. If one of the two cannot be used, a warning says so
    and the other is used. Several threads may encode: the text tower does so for one at a time.
    """

    def __init__(self, identity: str, width: int, load: Callable[[], TextEncoder],
                 cache_dir: Path, recording: Path | None = None) -> None:
        """
        Store the places of recording and cache; nothing is read yet.

        :param identity: identity of the text tower, see `identify`.
        :param width: D that the embeddings must have.
        :param load: makes the text tower when it is needed.
        :param cache_dir: folder of the cache, made at the first write.
        :param recording: recording of the text tower, see recording.py.
        """
        self.identity, self.width = identity, width
        self._load = load
        self._table = SqliteTable(
            cache_dir / 'prompts.sqlite', 'prompt cache', 'prompts',
            ('tower TEXT', 'prompt TEXT'), ('embedding BLOB', 'truncated INTEGER'))
        self._recording_path = recording
        self._encoder: TextEncoder | None = None
        self._encoding = threading.Lock()

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """
        Embed N prompts: recorded and cached ones are looked up, the text tower encodes the others.

        :raises NoTower: if others are needed and the text tower is not available.
        :raises ValueError: if the text tower cannot be loaded or has another width.
        """
        known = self._kept(prompts)
        missing = list(dict.fromkeys(prompt for prompt in prompts if prompt not in known))
        try:
            for start in range(0, len(missing), BATCH):
                part = missing[start:start + BATCH]
                with self._encoding:
                    fresh = self._tower().encode(part)
                encoded = {prompt: (row, cut) for prompt, row, cut in zip(
                    part, fresh.rows, fresh.truncated.tolist(), strict=True)}
                self._write(encoded)
                known.update(encoded)
        except hub.NotAtHand as error:
            raise NoTower(missing, error, self) from error
        rows = np.empty((len(prompts), self.width), np.float32)
        for row, prompt in zip(rows, prompts, strict=True):
            row[:] = known[prompt][0]
        return TextEmbeddings(rows, np.array([known[prompt][1] for prompt in prompts], bool))

    def kept(self, prompts: Sequence[str]) -> set[str]:
        """Return the prompts that are recorded or cached."""
        return set(self._kept(prompts))

    def recorded(self, prompts: Sequence[str]) -> set[str]:
        """Return the prompts that are recorded."""
        found = self._recording
        return {prompt for prompt in prompts if found.find(prompt) is not None} if found else set()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names in the recording, each once, sorted."""
        names = self._recording.names if self._recording else ()
        return tuple(sorted(set(names) - {''}, key=lambda name: (name.casefold(), name)))

    @cached_property
    def _recording(self) -> Recording | None:
        if self._recording_path is None:
            return None
        try:
            found = recording.read(self._recording_path)
            if (found.identity, found.width) != (self.identity, self.width):
                raise ValueError(
                    f'recording {self._recording_path}: expected answers of the text tower '
                    f'{self.identity}, width {self.width}, found those of {found.identity}, width '
                    f'{found.width}')
            return found
        except ValueError as error:
            logger.warning('%s; the recording is not used', error)
            return None

    def _kept(self, prompts: Sequence[str]) -> dict[str, tuple[np.ndarray, bool]]:
        found = self._recording
        known = {prompt: (_unit(row), False) for prompt in prompts
                 if found and (row := found.find(prompt)) is not None}
        rest = [prompt for prompt in prompts if prompt not in known]
        return {**known, **self._read(rest)} if rest else known

    def _tower(self) -> TextEncoder:
        if self._encoder is None:
            encoder = self._load()
            if encoder.width != self.width:
                raise ValueError(f'text tower {self.identity}: expected width {self.width}, which '
                                 f'the student has, got {encoder.width}; use the text tower the '
                                 'student was distilled with')
            self._encoder = encoder
        return self._encoder

    def _read(self, prompts: Sequence[str]) -> dict[str, tuple[np.ndarray, bool]]:
        found = self._table.read([(self.identity, prompt) for prompt in prompts])
        return {prompt: (np.frombuffer(row, np.float32), bool(truncated))
                for (_, prompt), (row, truncated) in found.items()
                if isinstance(row, bytes) and len(row) == 4 * self.width}

    def _write(self, encoded: dict[str, tuple[np.ndarray, bool]]) -> None:
        self._table.write([(self.identity, prompt, row.tobytes(), truncated)
                           for prompt, (row, truncated) in encoded.items()])


def _unit(row: np.ndarray) -> np.ndarray:
    """Return a row that was stored in half precision as a float32 unit row."""
    row = row.astype(np.float32)
    return row / np.linalg.norm(row)


def default_cache_dir() -> Path:
    """Return $XDG_CACHE_HOME/vl2v_ros, by default ~/.cache/vl2v_ros."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'vl2v_ros'


def open_text_tower(tower: TextTower, width: int, folder: Path, cache_dir: Path) -> CachedText:
    """
    Return the cached encoder for a student of the given width.

    :param folder: folder of local files and of the recording.
    :raises ValueError: if a local config has another width.
    """
    if tower.is_local and (folder / tower.model).is_file():
        try:
            config = read_json(folder / tower.model)
            found = (config['model_cfg'] if 'model_cfg' in config else config)['embed_dim']
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f'text tower: expected an open_clip config with embed_dim in '
                             f'{folder / tower.model}, got {one_line(repr(error))}') from error
        if found != width:
            raise ValueError(f'text tower {folder / tower.model}: expected width {width}, which '
                             f'the student has, got {brief(found)}; use the text tower the '
                             'student was distilled with')

    identity = tower.identity or identify(tower, folder)

    def load() -> ClipText:
        try:
            if not tower.is_local:
                hub.check_early(identity)
            return ClipText(tower, folder)
        except ImportError as error:  # as vl2v_ros was installed without what needs torch
            raise hub.NotAtHand(identity, f'cannot be loaded ({one_line(error)})',
                                'pip install open_clip_torch') from error
    return CachedText(identity, width, load, cache_dir,
                      folder / tower.recording if tower.recording else None)
