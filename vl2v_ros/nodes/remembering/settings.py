"""The parameters of `memory_node`."""
from dataclasses import dataclass

from vl2v_ros.memory.memory import ALIKE, LIMIT
from vl2v_ros.nodes.parameters import parameter


@dataclass(frozen=True)
class MemoryParameters:
    """The parameters of `memory_node`."""

    file: str = parameter(
        '', 'SQLite file that holds what was seen; empty: $XDG_DATA_HOME/vl2v_ros/memory.sqlite '
        'or ~/.local/share/vl2v_ros/memory.sqlite')
    classifier: str = parameter(
        'classifier', 'Name of the classifier node, whose embeddings are remembered and whose '
        'services embed what is looked for')
    cameras: tuple[str, ...] = parameter(
        ('',), 'Names of the cameras, as the classifier has them; one empty name, or an empty '
        'list: one camera without a name')
    image_transport: str = parameter(
        'raw', 'Topic that thumbnails are made of: raw (image) or compressed (image/compressed)',
        choices=('raw', 'compressed'))
    thumbnail_size: int = parameter(
        96, 'Longer side of a thumbnail [px]; 0: none is kept, and no image is received', 0, 512)
    regions: bool = parameter(
        True, 'Remember the boxes in the images, too; the classifier then embeds each of them')
    positions: bool = parameter(
        False, 'Remember where boxes with an id are, from ~/detections_3d of the classifier, '
        'which then needs depth')
    limit: int = parameter(
        LIMIT, 'Number of sightings from which the oldest are forgotten', 1, 1_000_000)
    max_age: float = parameter(
        0.0, 'Time after which a sighting is forgotten [s]; 0: never', 0, 1e9)
    alike: float = parameter(
        ALIKE, 'Cosine from which what a camera sees in a row is one sighting', -1, 1)
    found_similarity: float = parameter(
        0.25, 'Cosine of a text from which ~/look_for takes a thing as seen, if the goal names '
        'none', -1, 1, live=True)
    alike_similarity: float = parameter(
        0.8, 'Cosine of a picture from which ~/look_for takes a thing as seen, if the goal names '
        'none', -1, 1, live=True)
