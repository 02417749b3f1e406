"""Cells: the student without its pooling, the same in every runtime, kept for the next start."""
from pathlib import Path
import sys

import numpy as np
import pytest
from support import shapes
from support.tiny_models import student, write_student
import torch
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.cells import Cells
from vl2v_ros.model.classifier import Classifier
from vl2v_ros.model.runtime import graphs
from vl2v_ros.model.runtime.torch_cells import TorchCells
from vl2v_ros.model.student import Student

CPU = torch.device('cpu')
FRAMES = [Frame(shapes.draw('red circle', width, height, np.random.default_rng(1)))
          for width, height in ((160, 120), (120, 160), (96, 96), (400, 20))]


@pytest.mark.parametrize('backbone', ['test_resnet', 'test_efficientnet', 'test_convnext'])
def test_the_mean_of_the_cells_is_the_image(backbone: str) -> None:
    """With a linear projector and average pooling, before anything is normalised."""
    tiny = student(backbone=backbone, image_size=64)
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cells = Cells(tiny)
        unscaled = cells.student.projector(cells.student.features(image).permute(0, 2, 3, 1))
        whole = tiny.projector(tiny.features(image))
        assert cells(image).shape == (2, 2, 2, tiny.spec.width)
    if backbone == 'test_convnext':  # it normalises what it has pooled
        assert torch.cosine_similarity(unscaled.mean((1, 2)), whole).min() > 0.8
    else:
        torch.testing.assert_close(unscaled.mean((1, 2)), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('resize_mode', ['shortest', 'squash'])
@pytest.mark.parametrize('backbone', ['test_efficientnet', 'mobilenetv3_small_050'])
@pytest.mark.long
def test_runtimes_agree_at_each_size(backbone: str, resize_mode: str) -> None:
    one = student(backbone=backbone, image_size=64, resize_mode=resize_mode)
    fast, plain = Classifier(one, 'cpu', half=False).open_cells(), TorchCells(
        one, CPU, torch.float32)
    for frame in FRAMES:
        for size in (50, 96):
            rows, others = fast(frame, size), plain(frame, size)
            assert rows.shape == others.shape
            assert np.linalg.norm(rows, axis=2) == pytest.approx(1, abs=1e-4)
            assert (rows * others).sum(2) == pytest.approx(1, abs=1e-3)


def test_cells_lie_as_the_frame_does() -> None:
    cells = TorchCells(student(image_size=64), CPU, torch.float32)
    assert [cells(frame, 96).shape[:2] for frame in FRAMES] == [
        (3, 4), (4, 3), (3, 3), (3, 12)]  # a strip is cut short at four times its height
    squashed = TorchCells(student(image_size=64, resize_mode='squash'), CPU, torch.float32)
    assert squashed(FRAMES[0], 96).shape[:2] == (3, 3)


@pytest.mark.long
def test_a_stored_student_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                            ) -> None:
    path = write_student(tmp_path / 'student.safetensors', student())
    stored = checkpoint.open_stored(path, tmp_path / 'graphs')
    first = Classifier(stored, 'cpu', half=False).open_cells()(FRAMES[0], 64)
    assert len(list(tmp_path.glob('graphs/*.cells'))) == 1
    monkeypatch.setattr(sys, 'executable', '/nothing/converts/again')
    again = Classifier(stored, 'cpu', half=False).open_cells()(FRAMES[0], 64)
    assert np.array_equal(first, again)


@pytest.mark.parametrize('stored', [False, True])
@pytest.mark.long
def test_a_student_without_a_map_is_refused_in_one_line(tmp_path: Path, stored: bool) -> None:
    given: Student | checkpoint.StoredStudent = student(backbone='test_vit', image_size=160)
    if stored:
        checkpoint.save(given, tmp_path / 'student.safetensors')
        given = checkpoint.open_stored(tmp_path / 'student.safetensors', tmp_path / 'graphs')
    with pytest.raises(ValueError, match=r'^test_vit: expected a backbone whose last features '
                       r'are a map, \(B, 64, h, w\), got \(1, 101, 64\); take a [^\n]*$'):
        graphs.of_cells(given)
