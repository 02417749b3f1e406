"""Every ROS parameter once: name, type, default, range, description; read as frozen snapshots."""
from collections.abc import Sequence
from dataclasses import dataclass, Field, field, fields, replace
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter
from vl2v_ros.words.language_model import KEY_VARIABLE, QUESTION


def _parameter(default: Any, description: str, low: float | None = None,
               high: float | None = None, live: bool = False,
               choices: tuple[str, ...] = ()) -> Any:
    """Describe one field; `live` ones change while the node runs, the rest are read-only."""
    return field(default=default, metadata={
        'description': description, 'range': (low, high), 'live': live, 'choices': choices})


@dataclass(frozen=True)
class ClassifierParameters:
    """What `classifier_node` can be told."""

    checkpoint: str = _parameter('', 'Student to run, a *.safetensors file')
    vocabulary: str = _parameter('', 'Labels at start: "mug, banana, apple", or a *.yaml file')
    cameras: tuple[str, ...] = _parameter(
        ('',), 'Names of the cameras, each a prefix of its topics; one empty name for one camera')
    image_transport: str = _parameter(
        'auto', 'raw: listen to image; compressed: to image/compressed; auto: to whichever '
        'delivers, raw preferred', choices=('auto', 'raw', 'compressed'))
    device: str = _parameter('auto', 'auto (CUDA, else CPU), cpu, cuda or cuda:N')
    half: bool = _parameter(True, 'Compute in half precision, on CUDA and on CPUs that have it')
    overlay: bool = _parameter(True, 'Offer ~/overlay; drawn only while someone subscribes')
    cache_dir: str = _parameter(
        '', 'Folder for encoded prompts and the answers of language models; empty: '
        '$XDG_CACHE_HOME/vl2v_ros or ~/.cache/vl2v_ros')
    background: tuple[str, ...] = _parameter(
        ('',), 'Prompts of what counts as unknown, such as "an empty table", beside those of the '
        'vocabulary file; one empty text for none')
    persist: str = _parameter(
        '', 'A *.yaml file that the vocabulary in force is kept in after each change, and that '
        'the next start goes on with; empty: not kept')
    autostart: bool = _parameter(True, 'Configure and activate without a lifecycle manager')
    top_k: int = _parameter(5, 'Labels per result', 1, 1000, live=True)
    max_rate: float = _parameter(
        0.0, 'Batches per second at most; 0: as fast as images come [Hz]', 0, 1000, live=True)
    unknown_threshold: float | None = _parameter(
        None, "Cosine below which a frame is unknown; not set: the checkpoint's", -1, 1, live=True)
    score_threshold: float = _parameter(
        0.0, 'Results with a lower score are left out of ~/classification', 0, 1, live=True)
    llm_endpoint: str = _parameter(
        '', 'Base address of a language model that speaks the protocol of OpenAI, such as '
        'http://localhost:11434/v1; for `enrich` of ~/set_vocabulary', live=True)
    llm_model: str = _parameter('', 'Its name there, such as llama3.2', live=True)
    llm_key_variable: str = _parameter(
        KEY_VARIABLE, "Name of the environment variable with the endpoint's key; never the key "
        'itself', live=True)
    llm_timeout: float = _parameter(30.0, 'Time limit of one attempt [s]', 0.1, 600, live=True)
    llm_question: str = _parameter(
        QUESTION, 'What it is asked, with {cls} in the place of a label', live=True)


@dataclass(frozen=True)
class CameraParameters:
    """What `camera_node` can be told."""

    source: str = _parameter('', 'Folder of images, video file, or webcam (0, /dev/video0)')
    rate: float = _parameter(30.0, 'Frames per second [Hz]', 0.1, 1000)
    width: int = _parameter(0, 'Width to scale frames to [px]; 0: as they are', 0, 8192)
    height: int = _parameter(0, 'Height to scale frames to [px]; 0: as they are', 0, 8192)
    encoding: str = _parameter('bgr8', 'Of raw images', choices=('bgr8', 'rgb8', 'mono8'))
    image_transport: str = _parameter(
        'raw', 'raw: publish image; compressed: publish image/compressed (JPEG)',
        choices=('raw', 'compressed'))
    jpeg_quality: int = _parameter(90, 'Of compressed images', 1, 100)
    frame_id: str = _parameter('camera', 'Of every header')
    loop: bool = _parameter(True, 'Begin again at the end of a folder or a video')
    listeners: int = _parameter(
        1, 'A folder or a video begins when so many listen; 0: at once', 0, 100)


T = TypeVar('T', ClassifierParameters, CameraParameters)


def declare(node: Node, kind: type[T]) -> T:
    """
    Declare all parameters of a kind and return their values.

    :raises ValueError: for a value outside of the choices.
    :raises rclpy.exceptions.ParameterException: for a wrong type or a value out of range.
    """
    values: dict[str, Any] = {}
    for entry in fields(kind):
        default = Parameter.Type.DOUBLE if entry.default is None else entry.default
        node.declare_parameter(entry.name, default, _descriptor(entry))
        value = node.get_parameter_or(entry.name).value  # None where nothing was set
        choices = entry.metadata['choices']
        if choices and value not in choices:
            raise ValueError(f'parameter {entry.name}: expected one of {choices}, got {value!r}')
        values[entry.name] = tuple(value) if isinstance(entry.default, tuple) else value
    return kind(**values)


def _descriptor(entry: Field[Any]) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=entry.metadata['description'],
                                     read_only=not entry.metadata['live'])
    descriptor.additional_constraints = ', '.join(entry.metadata['choices'])
    low, high = entry.metadata['range']
    if isinstance(entry.default, int) and low is not None:
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    elif low is not None:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high))]
    return descriptor


def changed(current: T, parameters: Sequence[Parameter]) -> T:
    """Return the snapshot with the values of those parameters that belong to it."""
    known = {entry.name for entry in fields(current)}
    return replace(current, **{parameter.name: parameter.value for parameter in parameters
                               if parameter.name in known})
