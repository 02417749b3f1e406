"""A checkpoint embeds the same in another process."""

import numpy as np
import pytest
from support import shapes, warm
from support.tiny_models import student
import torch
from vl2v_ros.images.frame import Frame
from vl2v_ros.model import checkpoint
from vl2v_ros.model.runtime.choose import create
from vl2v_ros.model.runtime.torch_runtime import TorchRuntime

FRAMES = [Frame(np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8))
          for seed in range(3)]


LOAD_AND_EMBED = """
import sys
from pathlib import Path
import numpy as np
import torch
from vl2v_ros.model import checkpoint
from vl2v_ros.images.frame import Frame
from vl2v_ros.model.runtime.torch_runtime import TorchRuntime
torch.set_num_threads(1)
student = checkpoint.load(Path(sys.argv[1]))
runtimes = [TorchRuntime(student, torch.device('cpu'), False, 'test')]
try:
    from vl2v_ros.model.runtime.openvino_runtime import open_on_cpu
    runtimes.append(open_on_cpu(student, 'test', half=False))
except ImportError:
    pass
frames = [Frame(pixels) for pixels in np.load(sys.argv[2])]
print(*[runtime.embed(frames).tobytes().hex() for runtime in runtimes])
"""


@pytest.fixture(scope='module')
def embedded_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return the embeddings that a new process makes with a saved student, by each runtime."""
    folder = tmp_path_factory.mktemp('saved')
    checkpoint.save(student(), folder / 'student.safetensors')
    np.save(folder / 'frames.npy', [frame.pixels for frame in FRAMES])
    said = warm.python(LOAD_AND_EMBED, folder / 'student.safetensors', folder / 'frames.npy')
    return [bytes.fromhex(word) for word in said.split()]


@pytest.mark.long
def test_new_process_embeds_the_same_with_torch(embedded_elsewhere: list[bytes]) -> None:
    with shapes.one_thread():  # with several, the last bit may differ from run to run
        here = TorchRuntime(student(), torch.device('cpu'), False, 'test').embed(FRAMES)
    assert embedded_elsewhere[0] == here.tobytes()
    assert len(np.unique(here.round(5), axis=0)) == len(FRAMES)


@pytest.mark.long
def test_new_process_embeds_the_same_with_openvino(embedded_elsewhere: list[bytes]) -> None:
    pytest.importorskip('openvino')
    here = create(student(), 'cpu', half=False).embed(FRAMES)
    assert embedded_elsewhere[1] == here.tobytes()
    assert len(np.unique(here.round(5), axis=0)) == len(FRAMES)
