"""
Outlines: graphs whose weights are those of a checkpoint.

An outline holds the operations of a graph and the few constants that are no weights, 0.6 MB for
the shipped student. Its weights are read from the checkpoint it was made from, so it needs a
thirtieth of the space and cannot bring other weights.
"""
from collections.abc import Sequence
import hashlib
from pathlib import Path
import xml.etree.ElementTree as ElementTree

import numpy as np
from safetensors import deserialize, safe_open, SafetensorError
from safetensors.numpy import save as to_bytes
from vl2v_ros.files import replacing
from vl2v_ros.model.spec import Graph

VERSION = '2'  # raise it with every change of `convert`: outlines are then made again
SUFFIX = '.graph'  # of the outline that lies beside its checkpoint
CELLS = 'cells'  # what openvino_graph.py is told for an outline of a student's cells
REFUSED, UNABLE = 3, 4  # what openvino_graph.py exits with: for the student, for OpenVINO
_ALIGNED = 64  # of constants, as OpenVINO writes them [bytes]


def digest(checkpoint: bytes) -> str:
    """Return the identity of a checkpoint for which an outline is valid."""
    return hashlib.sha256(VERSION.encode() + checkpoint).hexdigest()


def make(graph: Graph, checkpoint: bytes) -> Graph:
    """Return the outline of a graph; `fill` with the same checkpoint gives the graph again."""
    places: dict[bytes, int] = {}
    end, rest = 0, []

    def place(part: bytes) -> int:
        nonlocal end
        start = places.setdefault(part, end)
        if start == end:
            end += len(part) + -len(part) % _ALIGNED
        return start

    for part in _weights(checkpoint):
        place(part)
    root = ElementTree.fromstring(graph.xml)
    for layer in root.iter('layer'):
        data = layer.find('data')
        if layer.get('type') == 'Const' and data is not None:
            start, size = (int(data.attrib[name]) for name in ('offset', 'size'))
            part = graph.bin[start:start + size]
            if part not in places:
                rest.append(part)
            data.set('offset', str(place(part)))
    return Graph(ElementTree.tostring(root), _joined(rest))


def fill(outline: Graph, checkpoint: bytes) -> Graph:
    """Return the graph of an outline and its checkpoint."""
    weights = list(dict.fromkeys(_weights(checkpoint)))  # each once, as `make` placed them
    return Graph(outline.xml, _joined([*weights, outline.bin]))


def _joined(parts: Sequence[bytes]) -> bytes:
    return b''.join(padded for part in parts for padded in (part, bytes(-len(part) % _ALIGNED)))


def _weights(checkpoint: bytes) -> list[bytes]:
    """Return the weights of a checkpoint as float32, in the order of their names."""
    found = []
    for _, tensor in sorted(deserialize(checkpoint)):
        data, kind = tensor['data'], tensor['dtype']
        if kind == 'F16':
            data = np.frombuffer(data, np.float16).astype(np.float32).tobytes()
        elif kind == 'BF16':  # the upper half of a float32
            data = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).tobytes()
        if kind in ('F16', 'BF16', 'F32') and data:
            found.append(bytes(data))
    return found


def write(path: Path, outline: Graph, checkpoint: bytes) -> None:
    """Write an outline atomically; raises OSError if it cannot be written."""
    tensors = {name: np.frombuffer(part, np.uint8) for name, part in outline._asdict().items()}
    with replacing(path) as temporary:
        temporary.write_bytes(to_bytes(tensors, {'checkpoint': digest(checkpoint)}))


def read(path: Path, checkpoint: bytes) -> Graph:
    """
    Read the outline of a checkpoint.

    :raises ValueError: if it belongs to another one, is missing or damaged.
    """
    try:
        with safe_open(path, 'np') as file:
            if (file.metadata() or {}).get('checkpoint') != digest(checkpoint):
                raise ValueError(f'{path}: belongs to another checkpoint')
            return Graph(*(file.get_tensor(name).tobytes() for name in Graph._fields))
    except (OSError, SafetensorError) as error:
        raise ValueError(f'{path}: expected the outline of a student, found none ({error})'
                         ) from error
