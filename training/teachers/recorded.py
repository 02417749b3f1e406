"""Recordings: check that they fit a teacher, and import them into the caches."""
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from training.teachers.embedding_cache import image_key
from training.teachers.embedding_store import open_store
from vl2v_ros.words import open_clip_models
from vl2v_ros.words.cached_text import CachedText
from vl2v_ros.words.encoder import TextEmbeddings
from vl2v_ros.words.recording import Recording

AGREE = 0.95  # least cosine of two answers of one teacher to one question


def check_identity(found: Recording, teacher: str) -> None:
    """Raise ValueError for a recording of another teacher, or of an impossible one."""
    if teacher not in ('', found.identity):
        raise ValueError(f'expected answers of {teacher}, got some of {found.identity}; take the '
                         'recording of that teacher')
    try:
        known = open_clip_models.find(*found.identity.rsplit('/', 1))
    except (ValueError, TypeError):
        return  # no model that open_clip lists
    if known.identity != found.identity:
        raise ValueError(f'expected answers of {known.identity}, as the weights of this tag want '
                         f'it, got some of {found.identity}; if QuickGELU was on, record them '
                         'again under that identity')
    if known.width != found.width or (
            len(found.image_rows) and known.image_size != found.image_size):
        raise ValueError(f'expected answers of width {known.width} to images of '
                         f'{known.image_size} px, as {known.identity} has them, got width '
                         f'{found.width} and {found.image_size} px; take a recording of it')


def keep(found: Recording, cache_dir: Path) -> tuple[int, int]:
    """
    Import a recording into the caches; return the number of new prompts and images.

    :raises ValueError: if the caches have different answers of this teacher; nothing is imported.
    """
    store = open_store(cache_dir / 'embeddings', found.identity, found.width)
    images = {image_key(found.identity, found.image_size, digest.tobytes().hex()): row
              for digest, row in zip(found.image_digests, found.image_rows, strict=True)}
    texts: dict[str, np.ndarray] = dict(zip(
        found.prompts, half(found.prompt_rows).astype(np.float32), strict=True))
    known = cached_rows(found.identity, found.width, found.prompts, cache_dir)
    for prompt, row in known.items():
        _check_agreement(found.identity, f'the prompt {prompt!r:.80}', row, texts[prompt])
    pictures = 0
    if images:
        with store.writing():
            new = [key for key in images if key not in store.positions]
            old = [key for key in images if key in store.positions]
            for key, row in zip(old, store.rows(old), strict=True):
                _check_agreement(found.identity, 'an image', row, images[key])
            pictures = len(new)
            if new:
                store.append(new, np.array([images[key] for key in new]))
    CachedText(found.identity, found.width, lambda: _Recorded(texts, found.width),
               cache_dir).encode(tuple(texts))
    return len(texts) - len(known), pictures


def _check_agreement(identity: str, what: str, cached: np.ndarray, row: np.ndarray) -> None:
    cosine = float(cached.astype(np.float32) @ row.astype(np.float32))
    if not cosine >= AGREE:
        raise ValueError(f'expected answers of {identity}, but the one to {what} is turned by a '
                         f'cosine of {cosine:.2f} from the one in the caches; the '
                         'recording is of another teacher, or the caches are to be deleted')


def cached_rows(identity: str, width: int, prompts: Sequence[str], cache_dir: Path
                ) -> dict[str, np.ndarray]:
    """Return the (D,) row of each prompt that the cache of prompts has."""
    cached = CachedText(identity, width, lambda: _Recorded({}, width), cache_dir)
    known = sorted(cached.kept(prompts))
    return dict(zip(known, cached.encode(known).rows, strict=True))


class _Recorded:
    """The prompts of a recording, as a text encoder for the cache of prompts."""

    def __init__(self, rows: Mapping[str, np.ndarray], width: int) -> None:
        self._rows, self.width = rows, width

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        return TextEmbeddings(np.array([self._rows[prompt] for prompt in prompts]),
                              np.zeros(len(prompts), bool))


def half(rows: np.ndarray) -> np.ndarray:
    """Return (N, D) float16 unit rows."""
    rows = rows.astype(np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
