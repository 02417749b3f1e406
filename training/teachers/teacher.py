"""
Teachers: images and texts -> unit embeddings in one space.

A teacher is an open_clip model (`OpenClipTeacher`), or a black box that only answers queries: a
Python callable (`CallableTeacher`, `load_callable`) or a service (`http_teacher.HttpTeacher`).
VL2V (Addepalli et al., CVPR 2024) needs nothing else of a teacher. `embedding_cache.py` caches
image embeddings.
"""
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import open_clip
import torch
from torch.nn import functional
from vl2v_ros.checks import check_ranges
from vl2v_ros.words import open_clip_models
from vl2v_ros.words.cached_text import CachedText, default_cache_dir
from vl2v_ros.words.clip_text import ClipText, load_clip
from vl2v_ros.words.encoder import identify, TextEmbeddings, TextTower

PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


@runtime_checkable
class Teacher(Protocol):
    """
    Anything that embeds images and prompts; so it is a TextEncoder, too.

    identity: key of its embeddings in caches.
    width: D.
    image_size: side S of its input images [px].
    """

    identity: str
    width: int
    image_size: int

    def embed_images(self, images: torch.Tensor) -> np.ndarray:
        """Embed (B, 3, S, S) float32 RGB in [0, 1] as (B, D) float32 unit rows."""

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Embed N prompts."""


class CannotLoad(ValueError):
    """An answer is not cached, and the weights of the teacher are not available."""


class OpenClipTeacher:
    """
    Any open_clip model, frozen; normalises images by its own mean and std.

    The weights of a model that open_clip lists are loaded at the first query; if all answers are
    cached, they are never needed.

    identity: name and tag, or the digest of the local files; and the precision, if it is reduced.
    mean, std: (3, 1, 1) of RGB in [0, 1]; those of the pretrained tag or of a local
    open_clip_config.json, and CLIP's for other local configs.
    """

    def __init__(self, tower: TextTower, folder: Path = Path('.'), device: str = 'cpu',
                 precision: str = 'fp32') -> None:
        """
        Identify the model, and load it if its files are local.

        :param tower: the whole model, not its text tower alone.
        :param folder: folder of local files.
        :param precision: precision of the image tower, one of PRECISIONS; texts always use fp32.
        :raises ValueError: for names, files or weights that do not fit, or for weights without
            the image tower.
        """
        if precision not in PRECISIONS:
            raise ValueError(f'teacher: expected a precision of {", ".join(PRECISIONS)}, got '
                             f'{precision!r}')
        self._tower, self._folder = tower, folder
        self._device, self._reduced = torch.device(device), PRECISIONS[precision]
        try:
            self.identity = identify(tower, folder)
            if tower.is_local:
                self.model = self._load()
                self.width = self._text.width
                about = open_clip.get_model_preprocess_cfg(self.model)
                size, mean, std = self.model.visual.image_size, about['mean'], about['std']
            else:
                known = open_clip_models.find(tower.model, tower.pretrained)
                self.width, size = known.width, known.image_size
                mean, std = known.mean, known.std
        except ValueError as error:
            raise ValueError(f'teacher: {error}') from error
        if precision != 'fp32':
            self.identity += f' {precision}'
        self.image_size = _side(size)
        self.mean, self.std = (torch.tensor(values, device=self._device).view(3, 1, 1)
                               for values in (mean, std))

    @cached_property
    def model(self) -> Any:
        """The open_clip model; raises CannotLoad when the hub cannot be reached."""
        try:
            return self._load()
        except ValueError as error:
            raise CannotLoad(f'teacher: {error}') from error

    def _load(self) -> Any:
        model = load_clip(self._tower, self._folder, images=True)
        model = model.requires_grad_(False).to(self._device)
        model.visual.to(memory_format=torch.channels_last)
        return model

    @cached_property
    def _text(self) -> ClipText:
        return ClipText(self._tower, self._folder, self.model)

    def embed_images(self, images: torch.Tensor) -> np.ndarray:
        """
        Embed (B, 3, S, S) float32 RGB in [0, 1] as (B, D) float32 unit rows.

        :raises CannotLoad: as `model` does.
        """
        assert images.shape[1:] == (3, self.image_size, self.image_size), images.shape
        images = images.to(self._device, memory_format=torch.channels_last)
        reduced = nullcontext() if self._reduced is None else torch.autocast(
            self._device.type, self._reduced)
        with torch.inference_mode(), reduced:
            rows = self.model.encode_image((images - self.mean) / self.std)
        return functional.normalize(rows.float(), dim=1).cpu().numpy()

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """
        Embed N prompts; those longer than the context (77 tokens in CLIP) are cut.

        :raises CannotLoad: as `model` does.
        """
        return self._text.encode(prompts)


def _side(size: int | tuple[int, int]) -> int:
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ValueError(f'teacher: expected a model for square images, got one for {height} x '
                         f'{width} px; take another model')
    return height


class CallableTeacher:
    """
    A black box of two functions; queries are counted, and prompts are cached.

    queries: number of images and prompts that the functions received; cached prompts do not
    count. For images see `embedding_cache.embeddings`.
    """

    def __init__(self, images: Callable[[np.ndarray], object],
                 texts: Callable[[list[str]], object], identity: str, width: int, image_size: int,
                 cache_dir: Path | None = None) -> None:
        """
        Store the functions.

        :param images: (B, S, S, 3) uint8 RGB -> (B, D) numbers; they need not be unit rows.
        :param texts: N prompts -> (N, D) numbers, or TextEmbeddings if it is known which prompts
            were cut.
        :param identity: a name to change whenever the embeddings change.
        :param cache_dir: folder of the cache of prompts; None: that of this user.
        :raises ValueError: for an invalid identity, width or image_size.
        """
        said = SimpleNamespace(identity=identity, width=width, image_size=image_size)
        check_ranges(SimpleNamespace(teacher=said), (
            ('teacher.identity', isinstance(identity, str) and identity.strip(), 'a name'),
            ('teacher.width', type(width) is int and width >= 1, 'an integer of at least 1'),
            ('teacher.image_size', type(image_size) is int and image_size >= 1,
             'an integer of at least 1 [px]'),
        ))
        self.identity, self.width, self.image_size = identity, width, image_size
        self.queries = 0
        self._ask_images, self._ask_texts = images, texts
        self._prompts = CachedText(identity, width, lambda: _Asked(self),
                                   cache_dir or default_cache_dir())

    def embed_images(self, images: torch.Tensor) -> np.ndarray:
        """
        Embed (B, 3, S, S) float32 RGB in [0, 1] as (B, D) float32 unit rows.

        The function receives them rounded to uint8.

        :raises ValueError: for an answer that is not (B, D) finite rows.
        """
        assert images.shape[1:] == (3, self.image_size, self.image_size), images.shape
        # Each step in place, and in the order of the answer: twice as fast.
        pixels = images.permute(0, 2, 3, 1).mul(255).round_().clamp_(0, 255).byte().contiguous()
        self.queries += len(images)
        answer = self._ask_images(pixels.cpu().numpy())
        return unit_rows(answer, len(images), self.width, f'teacher {self.identity}: images')

    def encode(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Embed N prompts; cached ones are looked up. Raises as embed_images does."""
        return self._prompts.encode(prompts)

    def ask_texts(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Embed N prompts without the cache."""
        self.queries += len(prompts)
        answer = self._ask_texts(list(prompts))
        truncated: np.ndarray = np.zeros(len(prompts), bool)
        if isinstance(answer, TextEmbeddings):
            truncated, answer = np.asarray(answer.truncated), answer.rows
        rows = unit_rows(answer, len(prompts), self.width, f'teacher {self.identity}: prompts')
        if truncated.dtype != bool or truncated.shape != (len(prompts),):
            raise ValueError(f'teacher {self.identity}: prompts: expected {len(prompts)} times '
                             'whether a prompt was cut (true or false), got '
                             f'{truncated.dtype} {truncated.shape}; correct the teacher')
        return TextEmbeddings(rows, truncated)


class _Asked:
    """The text function of a black box, as a text encoder for the cache of prompts."""

    def __init__(self, teacher: CallableTeacher) -> None:
        self.width, self.encode = teacher.width, teacher.ask_texts


def unit_rows(answer: object, count: int, width: int, what: str) -> np.ndarray:
    """
    Check a teacher's answer and normalise it.

    :param what: name of the answer in errors.
    :return: (count, width) float32 unit rows.
    :raises ValueError: if it has another shape or length, is not finite, or has a row of zeros.
    """
    try:
        if isinstance(answer, torch.Tensor):
            answer = answer.detach().float().cpu()
        rows = np.asarray(answer, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f'{what}: expected {count} rows of {width} numbers, got something else '
                         f'({error}); correct the teacher') from error
    if rows.shape != (count, width):
        raise ValueError(f'{what}: expected ({count}, {width}) numbers (one row each, and the '
                         f"teacher's width), got {rows.shape}; correct the teacher, or the width "
                         'it is said to have')
    with np.errstate(over='ignore'):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ValueError(f'{what}: expected finite rows that are not zero, got row {bad[0]} of '
                         f'length {lengths[bad[0], 0]:g}; correct the teacher')
    return (rows / lengths).astype(np.float32)


def load_callable(path: str) -> Teacher:
    """
    Call a function without parameters that returns a teacher, such as a CallableTeacher.

    :param path: the function as 'package.module:name'; its module is imported, so it must be safe.
    :raises ValueError: if there is no such function, or it returns something else.
    """
    module, _, name = path.partition(':')
    if not module or not name:
        raise ValueError(f"teacher: expected 'package.module:name', got {path!r}")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f'teacher {path}: expected a function to import, but {error}; correct '
                         'the path, or set PYTHONPATH') from error
    teacher = make() if callable(make) else make
    if not isinstance(teacher, Teacher):
        raise ValueError(f'teacher {path}: expected a function that returns a teacher (identity, '
                         'width, image_size, embed_images, encode), got one that returns '
                         f'{type(teacher).__name__}; return a CallableTeacher')
    return teacher
