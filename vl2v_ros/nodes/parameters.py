"""Every ROS parameter: name, type, default, range and description; read as frozen snapshots."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, Field, field, fields, replace
from difflib import get_close_matches
from functools import partial
import re
from typing import Any, ClassVar, Protocol, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.parameter import Parameter
from vl2v_ros.files import one_line
from vl2v_ros.words.language_model import KEY_VARIABLE, QUESTION
from vl2v_ros.words.vectors.examples import TEXT_WEIGHT


def parameter(default: Any, description: str, low: float | None = None,
               high: float | None = None, live: bool = False,
               choices: tuple[str, ...] = ()) -> Any:
    """Describe one field; `live`: it can change while the node runs, else it is read-only."""
    return field(default=default, metadata={
        'description': description, 'range': (low, high), 'live': live, 'choices': choices})


@dataclass(frozen=True)
class ClassifierParameters:
    """The parameters of `classifier_node`."""

    checkpoint: str = parameter('', 'Path of the student to run, a *.safetensors file')
    vocabulary: str = parameter(
        '', 'Labels to start with: a text such as "mug, banana, apple", or the path of a *.yaml '
        'file')
    cameras: tuple[str, ...] = parameter(
        ('',), 'Names of the cameras; each name is a prefix of the topics of its camera; one '
        'empty name, or an empty list: one camera without a prefix')
    image_transport: str = parameter(
        'auto', 'Topic to receive images from: raw (image), compressed (image/compressed), or '
        'auto (the one that delivers; raw if both do)', choices=('auto', 'raw', 'compressed'))
    device: str = parameter(
        'auto', 'Device that runs the student: auto (CUDA if present, else CPU), cpu, cuda or '
        'cuda:N; onnx:cpu, onnx:cuda or onnx:tensorrt: by ONNX Runtime, from the ONNX file beside '
        'the checkpoint')
    half: bool = parameter(
        True, 'Compute in half precision: float16 on CUDA; float16 or bfloat16 on a CPU, where '
        'that is measured to be faster and the embeddings stay close to those in float32')
    overlay: bool = parameter(
        True, 'Offer the annotated image on ~/overlay; it is drawn only while a node subscribes')
    font: str = parameter(
        '', 'Font file (*.ttf, *.otf, *.ttc) for the labels of ~/overlay; letters that it lacks, '
        'or all if it is empty, are drawn in the fonts of the system')
    cache_dir: str = parameter(
        '', 'Folder that stores encoded prompts and the answers of the language model; empty: '
        '$XDG_CACHE_HOME/vl2v_ros or ~/.cache/vl2v_ros')
    background: tuple[str, ...] = parameter(
        ('',), 'Background prompts, such as "an empty table"; an image that matches one best is '
        'unknown; they are added to those of the vocabulary file; an empty list adds none')
    persist: str = parameter(
        '', 'YAML file: saves the vocabulary after each change and restores it at start-up; '
        'empty: changes are lost at the end')
    autostart: bool = parameter(
        True, 'Configure and activate the node at start-up; false: wait for a lifecycle manager')
    top_k: int = parameter(5, 'Number of labels in each result', 1, 1000, live=True)
    max_rate: float = parameter(
        0.0, 'Largest number of batches per second [Hz]; 0: no limit', 0, 1000, live=True)
    unknown_threshold: float | None = parameter(
        None, 'Cosine similarity below which an image is unknown; not set: the value stored in '
        'the checkpoint', -1, 1, live=True)
    text_weight: float = parameter(
        TEXT_WEIGHT, 'How much the text of a label counts against its examples in ~/teach, where '
        'the request does not say: 0 not at all, 1 alone', 0, 1, live=True)
    score_threshold: float = parameter(
        0.0, 'Score below which a label is left out of ~/classification', 0, 1, live=True)
    smoothing: float = parameter(
        0.0, 'Time after which an image counts 37 % of what it did in the average that is '
        'labelled [s], per camera and per id of a box; 0: each image is labelled alone', 0, 60,
        live=True)
    hysteresis: float = parameter(
        0.0, 'The first label stays until another one has over 0.5 plus this of the probability '
        'of both, and what is unknown until its unknown_score is below 0.5 minus this; 0: the '
        'best label is always the first', 0, 0.49, live=True)
    region_slack: float = parameter(
        0.5, 'Largest difference between the stamps of boxes on `regions` and of their image, and '
        'how long an image is kept for its boxes [s]', 0, 10, live=True)
    region_margin: float = parameter(
        0.1, 'Part of the side of a box that is seen beyond it on each side', 0, 2, live=True)
    region_min_size: float = parameter(
        8.0, 'Boxes with a shorter side get no label [px]', 0, 8192, live=True)
    region_limit: int = parameter(
        100, 'Largest number of boxes of an image that get labels; the first ones do', 0, 10_000,
        live=True)
    rectified: bool = parameter(
        False, 'The images are rectified (image_rect), so that P of camera_info holds for them '
        'and for depth; false: K and D')
    depth_min: float = parameter(
        0.05, 'Depth below which a pixel of `depth` is invalid [m]', 0.001, 1000, live=True)
    depth_max: float = parameter(
        20.0, 'Depth above which a pixel of `depth` is invalid [m]', 0.001, 1000, live=True)
    own_boxes: bool = parameter(
        True, 'Find boxes without a detector, for ~/detections, while nobody publishes `regions` '
        'and a node subscribes', live=True)
    where_size: int = parameter(
        896, 'Shorter side that an image is resized to for ~/heatmap and for own boxes, in steps '
        'of 32 [px]; a larger one shows smaller things and takes more time', 32, 2048, live=True)
    heatmap_labels: tuple[str, ...] = parameter(
        ('',), 'Labels that ~/heatmap shows; one empty label: those that are the surest in '
        'the image', live=True)
    llm_endpoint: str = parameter(
        '', 'Base URL of an OpenAI-compatible language model, such as '
        'http://localhost:11434/v1; it writes descriptions when ~/set_vocabulary is called with '
        'enrich')
    llm_model: str = parameter(
        '', 'Name of the language model at llm_endpoint, such as llama3.2', live=True)
    llm_key_variable: str = parameter(
        KEY_VARIABLE, 'Name of the environment variable that holds the key of llm_endpoint; '
        'never the key itself')
    llm_timeout: float = parameter(
        30.0, 'Time limit of one request to llm_endpoint [s]', 0.1, 600, live=True)
    llm_question: str = parameter(
        QUESTION, 'Question to the language model; {cls} is replaced by the label', live=True)


@dataclass(frozen=True)
class CameraParameters:
    """The parameters of `camera_node`."""

    source: str = parameter(
        '', 'Images to publish: a folder of images, a video file, or a webcam (0 or /dev/video0)')
    rate: float = parameter(30.0, 'Frames published per second [Hz]', 0.1, 1000)
    width: int = parameter(
        0, 'Width that frames are scaled to [px]; 0: the width of the source', 0, 8192)
    height: int = parameter(
        0, 'Height that frames are scaled to [px]; 0: the height of the source', 0, 8192)
    encoding: str = parameter(
        'bgr8', 'Pixel encoding of raw images', choices=('bgr8', 'rgb8', 'mono8'))
    image_transport: str = parameter(
        'raw', 'Topic to publish: raw (image) or compressed (image/compressed, JPEG)',
        choices=('raw', 'compressed'))
    jpeg_quality: int = parameter(90, 'JPEG quality of compressed images', 1, 100)
    frame_id: str = parameter('camera', 'Frame id written into every header')
    loop: bool = parameter(
        True, 'Start again at the end of a folder or a video; false: the node ends')
    listeners: int = parameter(
        1, 'Number of subscribers to wait for before a folder or a video starts; 0: start at once',
        0, 100)


class Fields(Protocol):
    """A dataclass whose fields are made by `parameter`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar('T', bound=Fields)
ALIKE = 0.8  # of two names, one of which may be the other, misspelt

# What a user must give, by the type of the default.
EXPECTED = {
    str: 'a text, in quotes of its own if it looks like something else ("\'0\'")',
    bool: 'true or false', int: 'a whole number', float: 'a number with a point, as in 5.0',
    type(None): 'a number with a point, as in 0.5',
    tuple: "a list of texts, as in ['a', 'b']"}


def declare(node: Node, kind: type[T]) -> T:
    """
    Declare all parameters of a kind and return their values; answer every request to set some.

    A parameter file may hold those of other nodes, too, so only what looks misspelt is logged.

    :raises ValueError: for a value of a wrong type, or one that is not one of the choices; the
        message names the parameter.
    :raises rclpy.exceptions.ParameterException: for a value out of range.
    """
    for service in node.services:
        if service.srv_type in (SetParameters, SetParametersAtomically):
            service.callback = partial(_answer, service.callback)
    values: dict[str, Any] = {}
    for entry in fields(kind):
        value = _declared(node, entry)
        choices = entry.metadata['choices']
        if choices and value not in choices:
            raise ValueError(f'parameter {entry.name}: expected one of {choices}, got {value!r}')
        values[entry.name] = tuple(value) if isinstance(entry.default, tuple) else value
    for name in node._parameter_overrides.keys() - values.keys():  # rclpy has no public name
        for meant in get_close_matches(name, values, 1, ALIKE):
            node.get_logger().warning(f'parameter {name} is unknown and changes nothing; is '
                                      f'{meant} meant?')
    return kind(**values)


def _declared(node: Node, entry: Field[Any]) -> Any:
    """Declare one parameter and return its value, None if it has none."""
    name, default = entry.name, entry.default
    is_list, expected = isinstance(default, tuple), EXPECTED[type(default)]
    try:
        if is_list:
            # `[]` has no type in YAML: what is declared has no value then, not even the default.
            node.declare_parameter(name, default)
            given = node.get_parameter_or(name).value
            node.undeclare_parameter(name)
            default = default if given is None else given
        node.declare_parameter(name, Parameter.Type.DOUBLE if default is None else default,
                               _descriptor(entry), ignore_override=is_list)
    except InvalidParameterTypeException as error:
        found = re.search(r"to '(.*)' of type '(\w+)'", str(error), re.DOTALL)
        got = f"'{found[1]}' ({found[2]})" if found else str(error)
        raise ValueError(f'parameter {name}: expected {expected}, got {got}') from error
    value = node.get_parameter_or(name).value
    if value is None and default is not None:
        raise ValueError(f'parameter {name}: expected {expected}, got an empty list')
    return value


def _answer(callback: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
    """Refuse what ends rclpy's own callback with an error, and the node with it."""
    try:
        return callback(request, response)
    except Exception as error:  # noqa: BLE001 such as for an unknown type of a value
        refused = SetParametersResult(reason='expected a parameter with a type and a value of it: '
                                             f'{one_line(error)}')
        if isinstance(request, SetParametersAtomically.Request):
            response.result = refused
        else:
            left = len(request.parameters) - len(response.results)
            response.results = [*response.results, *[refused] * left]
        return response


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
