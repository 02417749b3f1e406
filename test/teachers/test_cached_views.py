"""Cached embeddings of augmented views, as a student's images are."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.teacher_images import black_box, COUNT, SIDE, VIEWS, WIDTH
import torch
from torch.nn import functional
from training.data import image_index
from training.data.images import Images
from training.recipe import Augmentation
from training.teachers.embedding_cache import CachedTeacher, embeddings, Views


def test_views_are_what_a_students_images_are_at_each_epoch(
        index: image_index.Index, folder: Path) -> None:
    teacher = black_box()
    # Without workers: a process that has threads, as this one may, can hang when it is forked.
    rows = embeddings(index, CachedTeacher(teacher, folder), Views(3, VIEWS, seed=4), batch=7)
    assert rows.shape == (COUNT, 3, WIDTH) and teacher.queries == 3 * COUNT
    images = Images(index, SIDE, VIEWS, seed=4)
    for view in range(3):
        images.set_epoch(view)
        batch = torch.stack([sample.image for sample in images])
        np.testing.assert_allclose(rows[:, view], black_box().embed_images(batch), atol=1e-3)
    assert abs(rows[:, 0] - rows[:, 1]).max(axis=1).min() > 0.01  # and they differ


@pytest.mark.parametrize(('views', 'settings', 'asked'), [
    (2, {}, 0), (1, {}, 0), (3, {}, COUNT), (2, {'seed': 1}, 2 * COUNT),
    (2, {'augmentation': replace(VIEWS, hue=0.1)}, 2 * COUNT), (0, {}, COUNT),
    (2, {'resize_mode': 'squash'}, 0)])
def test_views_are_cached_by_what_they_depend_on(
        index: image_index.Index, folder: Path, views: int, settings: dict, asked: int) -> None:
    embeddings(index, CachedTeacher(black_box(), folder), Views(2, VIEWS))
    teacher = black_box()
    rows = embeddings(index, CachedTeacher(teacher, folder), Views(
        views, **{'augmentation': VIEWS, **settings}))
    assert rows.shape == (COUNT, max(1, views), WIDTH) and teacher.queries == asked


@pytest.mark.parametrize('augmentation', [VIEWS, replace(VIEWS, rand_augment=(2, 9))])
def test_view_shows_the_same_crop_at_every_size(
        index: image_index.Index, augmentation: Augmentation) -> None:
    def view_at(side: int, view: int) -> torch.Tensor:
        """Return a view of all images at one size, reduced to 64 px."""
        images = Images(index, side, augmentation, seed=4)
        images.set_epoch(view)
        batch = torch.stack([sample.image for sample in images])
        return functional.interpolate(batch, (64, 64), mode='bilinear', antialias=True)

    for view in range(3):
        small, large, other = view_at(64, view), view_at(96, view), view_at(64, view + 3)
        assert (small - large).abs().mean((1, 2, 3)).max() < 0.04
        assert (other - large).abs().mean((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize(('views', 'augmentation'), [(2, None), (-1, VIEWS)])
def test_views_need_an_augmentation(views: int, augmentation: Augmentation | None) -> None:
    with pytest.raises(ValueError, match='expected views and how to augment them, or 0 views'):
        Views(views, augmentation)
