"""
Recipes: all that a distillation depends on, as one frozen value, read from YAML.

Every field can be changed on the command line: `distill.py --help` lists them.
"""
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
import math
from pathlib import Path
import types
import typing

from images import Augmentation
import losses
from vl2v_ros.vocabulary import TEMPLATE
import yaml

ROOT = Path(__file__).resolve().parent.parent
TRAINED = ('all', 'backbone', 'projector')
PRECISIONS = ('32-true', 'bf16-mixed', '16-mixed')


@dataclass(frozen=True)
class Source:
    """A folder of images beside others, with what is known of them; see mixture.py."""

    images: Path
    """Folder of images, at any depth."""
    names: Path | None = None
    """YAML that maps class folders to names; images of others, or without it, have no name."""
    named: bool = False
    """Without `names`: each class folder is named as what it shows."""
    teacher: str = ''
    """all: its embeddings are learnt from, and asked for where they are missing; known: of those
    images alone whose embedding is in the caches, the others are left out; start: the student as
    it begins is the teacher instead, so that it stays near; '': never."""
    part: float = 1.0
    """Of each batch, relative to the other sources."""
    without: tuple[str, ...] = ()
    """Folders below `images` that are left out."""

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        if self.named and self.names:
            raise ValueError('named: expected no names file beside it; leave one of them out')
        if self.teacher not in ('', 'known', 'all', 'start'):
            raise ValueError(f"teacher: expected '', known, all or start, got {self.teacher!r}")
        if not 0 < self.part < math.inf:
            raise ValueError(f'part: expected a positive number, got {self.part!r}')


@dataclass(frozen=True)
class Data:
    """Which images, and the words for their classes."""

    images: Path = ROOT / 'data/ycb_sample/single'
    """Folder of <domain>/<class>/* or <class>/*; a dataset of render.py with `shards`."""
    shards: bool = False
    """Stream the WebDataset shards below `images` instead of reading its folders; the teacher is
    asked in each step."""
    test: Path | None = None
    """Folder of images to test on; without it a part of `images` is held out. Shards need it."""
    hold_out: float = 0.2
    """That part, of each class and domain trained on; what is not trained on is tested whole."""
    domains: tuple[str, ...] = ()
    """Trained on; none: all. The others are unseen domains of the evaluation."""
    split: Path | None = None
    """An object split: only its id classes are trained on, its ood classes are tested too."""
    vocabulary: Path = ROOT / 'config/vocabularies/ycb.yaml'
    """Descriptions of the labels; labels are the class names without number and underscores."""
    enrich: bool = True
    """Use these descriptions; else labels alone."""
    templates: tuple[str, ...] = (TEMPLATE,)
    sources: tuple[Source, ...] = ()
    """Learn from a mixture of these instead of `images`; then nothing is tested (see naming.py)
    and labels have no descriptions."""
    captions: Path | None = None
    """CSV with the columns file and caption: what a captioner says of each image to train on,
    for the loss term of that name; files as below `images`."""


@dataclass(frozen=True)
class TeacherSource:
    """Where the teacher comes from; see teacher.py. Files are relative to the working folder."""

    model: str = str(ROOT / 'data/mini/mini_clip.json')
    """open_clip name, local open_clip config (*.json), http(s) address or module:callable."""
    pretrained: str = str(ROOT / 'data/mini/mini_clip.safetensors')
    """open_clip pretrained tag, or the local config's weights file."""
    recording: Path | None = None
    """File of answers that are known already, see recordings.py; a student takes its prompts
    along."""


@dataclass(frozen=True)
class StudentSource:
    """What is trained."""

    backbone: str = 'mobilenetv2_100'
    """timm model name."""
    weights: str = 'teacher'
    """'': random; 'hub': timm's pretrained; 'teacher': the teacher's own image tower (VL2V-SD);
    else a file (*.safetensors) with weights for the backbone, or a student to go on with."""
    image_size: int = 128
    """Side of its input [px]."""
    projector: str = 'linear'
    """linear or mlp."""
    dropout: float = 0.0
    """Part of the features that is replaced by their mean while the projector learns."""
    classes: Path | None = None
    """YAML list of the names of the classes that the classifier in the weights file tells apart,
    in its order; for the loss terms keep and stand_in. An mlp projector begins with it."""
    freeze_batch_norm: bool = True
    """Keep the statistics of batch norms as they are."""
    closed_set: bool = False
    """Learn one linear output per class instead of an embedding, as ERM and KD do."""


@dataclass(frozen=True)
class Stage:
    """A part of the training: what is trained, how long, at which rate."""

    train: str = 'all'
    """all, backbone or projector (a closed-set head counts as one)."""
    epochs: int = 10
    rate: float = 1e-3
    """Peak learning rate; it rises over the first tenth of the stage and falls along a cosine."""


@dataclass(frozen=True)
class Loss:
    """Weights of the loss terms, see losses.py."""

    cls: float = 0.0
    mse: float = 0.0
    im_cst: float = 0.0
    vlprox: float = 0.0
    img_cos: float = 0.0
    centred: float = 0.0
    txt_cos: float = 0.0
    kd: float = 0.0
    caption: float = 0.0
    keep: float = 0.0
    stand_in: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """One distillation."""

    name: str = 'ood'
    data: Data = Data()
    teacher: TeacherSource = TeacherSource()
    student: StudentSource = StudentSource()
    stages: tuple[Stage, ...] = (Stage(),)
    loss: Loss = Loss(cls=1.0, im_cst=1.0)
    temperature: float = 0.07
    k: int = 5
    """Labels that vlprox compares."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    views: int = 0
    """Augmented views of each image the teacher sees too; 0: it sees the plain image only."""
    optimizer: str = 'adamw'
    """Any of timm's."""
    weight_decay: float = 0.01
    average: float = 0.0
    """Average the weights over this last part of each stage (after SWAD); 0: do not."""
    batch: int = 64
    """Images per step, over all processes."""
    seed: int = 0
    precision: str = '32-true'
    """Of Lightning Fabric: 32-true, bf16-mixed, 16-mixed."""
    device: str = 'auto'
    workers: int = 1
    """Processes that load images."""
    resident: bool = False
    """Of sources: decode all images once and keep them on the device, see resident.py."""
    out: Path = ROOT / 'runs'
    """A folder <name>_seed<seed> is made in it."""
    save_every: int = 100
    """Steps between two points at which a run can go on."""

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        for name, good, expected in (
            ('stages', self.stages and all(stage.train in TRAINED and stage.epochs >= 1
                                           and 0 < stage.rate < math.inf for stage in self.stages),
             f'at least one, each training one of {", ".join(TRAINED)}, with epochs >= 1 and a '
             'positive rate'),
            ('name', self.name and '/' not in self.name, 'a name for a folder'),
            ('temperature', 0 < self.temperature < math.inf, 'a positive number'),
            ('k', self.k >= 1, 'at least 1'),
            ('views', self.views >= 0, '0 or more'),
            ('weight_decay', 0 <= self.weight_decay < math.inf, '0 or more'),
            ('average', 0 <= self.average <= 1, 'a part of 1'),
            ('batch', self.batch >= 2, 'at least 2'),
            ('seed', self.seed >= 0, '0 or more'),
            ('precision', self.precision in PRECISIONS, f'one of {", ".join(PRECISIONS)}'),
            ('workers', self.workers >= 0, '0 or more'),
            ('save_every', self.save_every >= 1, 'at least 1'),
            ('student.image_size', self.student.image_size >= 1, 'at least 1'),
            ('student.dropout', 0 <= self.student.dropout < 1, 'a part of 1'),
            ('student.classes', self.student.classes or not (
                self.loss.keep or self.loss.stand_in), 'a file, for loss.keep and loss.stand_in'),
            ('student.projector', self.student.projector in ('linear', 'mlp'), 'linear or mlp'),
            ('data.hold_out', 0 < self.data.hold_out < 1, 'a part of 1'),
        ):
            if not good:
                value = self
                for part in name.split('.'):
                    value = getattr(value, part)
                raise ValueError(f'{name}: expected {expected}, got {value!r}')
        losses.check_weights(vars(self.loss))


def read(path: Path) -> Recipe:
    """
    Read a recipe; paths in it are relative to the repository.

    :raises ValueError: for a file that is no recipe, naming the key and the known ones.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'recipe {path}: expected a YAML file: {error}') from error
    try:
        return _build(Recipe, content, '')
    except ValueError as error:
        raise ValueError(f'recipe {path}: {error}') from error


def _build(kind: object, value: object, where: str) -> object:
    """Make a value of a type out of what YAML has."""
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f'{where or "its content"}: expected a mapping, got {value!r:.80}')
        known = [entry.name for entry in fields(kind)]
        if unknown := [key for key in value if key not in known]:
            raise ValueError(f'{where}{"." if where else ""}{unknown[0]}: no such key; known are '
                             f'{", ".join(known)}')
        hints = typing.get_type_hints(kind)
        values = {key: _build(hints[key], entry, f'{where}.{key}'.lstrip('.'))
                  for key, entry in value.items()}
        try:
            return kind(**values)
        except ValueError as error:
            raise ValueError(f'{where}{"." if where else ""}{error}') from error
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f'{where}: expected a list, got {value!r:.80}')
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) != len(value):
            raise ValueError(f'{where}: expected {len(kinds)} values, got {value!r:.80}')
        return tuple(_build(one, entry, where) for one, entry in zip(kinds, value))
    if kind is Path and isinstance(value, str):
        return ROOT / value
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            pass
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f'{where}: expected {kind.__name__}, got {value!r:.80}')


def plain(recipe: Recipe) -> dict[str, object]:
    """Return a recipe as values that JSON and YAML can hold."""
    def convert(value: object) -> object:
        if isinstance(value, Mapping):
            return {key: convert(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [convert(entry) for entry in value]
        return str(value) if isinstance(value, Path) else value
    return convert(asdict(recipe))
