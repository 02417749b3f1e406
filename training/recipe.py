"""
Recipes: all that a distillation depends on, as one frozen value; what does not fit is refused.

`recipe_file.py` reads them from YAML. Every field can be changed on the command line:
`distill.py --help` lists them.
"""
from dataclasses import dataclass, field
import math
from operator import attrgetter
from pathlib import Path

from vl2v_ros.checks import check_ranges
from vl2v_ros.model.spec import PROJECTORS
from vl2v_ros.model.student import check_backbone
from vl2v_ros.words.vocabulary import TEMPLATE

ROOT = Path(__file__).resolve().parent.parent
TRAINED = ('all', 'backbone', 'projector')
PRECISIONS = ('32-true', 'bf16-mixed', '16-mixed')
# Loss terms that learn from a teacher's embedding of each image, and from its label.
NEED_TEACHER = {'mse', 'im_cst', 'vlprox', 'img_cos', 'centred', 'kd'}
NEED_LABELS = {'cls', 'txt_cos', 'vlprox'}


@dataclass(frozen=True)
class Augmentation:
    """
    How training images vary; the defaults are those of VL2V (Addepalli et al., CVPR 2024).

    scale: area of a random crop, as parts of the image.
    flip, grey: probability of a mirrored and of a grey image.
    jitter: of brightness, contrast and saturation, as a part of them.
    hue: of the colour circle, at most 0.5.
    rand_augment: number of operations and magnitude (0..30) of RandAugment; (2, 9) in the
    experiments of Li, Fang et al. (ICCV 2023). None: without.
    """

    scale: tuple[float, float] = (0.7, 1.0)
    flip: float = 0.5
    jitter: float = 0.3
    hue: float = 0.3
    grey: float = 0.1
    rand_augment: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        operations, magnitude = self.rand_augment or (1, 0)
        check_ranges(self, (
            ('scale', 0 < self.scale[0] <= self.scale[1] <= 1, 'two ascending parts of 1'),
            ('flip', 0 <= self.flip <= 1, 'a probability'),
            ('jitter', 0 <= self.jitter <= 1, 'a part of 1'),
            ('hue', 0 <= self.hue <= 0.5, 'at most 0.5 of the colour circle'),
            ('grey', 0 <= self.grey <= 1, 'a probability'),
            ('rand_augment', operations >= 1 and 0 <= magnitude <= 30,
             'a number of operations and a magnitude of 0 to 30'),
        ))


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

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        try:
            check_backbone(self.backbone)
        except ValueError as error:
            raise ValueError(f'backbone: {error}') from error
        check_ranges(self, (
            ('image_size', self.image_size >= 1, 'at least 1 [px]'),
            ('dropout', 0 <= self.dropout < 1, 'a part of 1'),
            ('projector', self.projector in PROJECTORS, f'one of {", ".join(PROJECTORS)}'),
        ))


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
    """Weights of the loss terms, see learning/losses.py; a term of weight 0 is not computed."""

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

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        check_ranges(self, [(name, 0 <= weight < math.inf, 'a weight of 0 or more')
                            for name, weight in vars(self).items()])

    @property
    def weights(self) -> dict[str, float]:
        """By name of a term, the weights above 0."""
        return {name: weight for name, weight in vars(self).items() if weight}


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
        """Check ranges, and that all goes together; raises ValueError that names the field."""
        check_ranges(self, (
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
            ('student.classes', self.student.classes or not (
                self.loss.keep or self.loss.stand_in), 'a file, for loss.keep and loss.stand_in'),
            ('loss', self.loss.weights, 'a weight above 0 for at least one term'),
            ('loss', not self.student.closed_set or self.loss.weights.keys() <= {'cls', 'kd'},
             'cls and kd alone with student.closed_set, which learns no embedding'),
            ('data.hold_out', 0 < self.data.hold_out < 1, 'a part of 1'),
        ))
        if self.data.sources:
            self._check_sources()
        else:
            self._check_folders()

    def _check_folders(self) -> None:
        """Refuse what needs sources, and captions of what has none."""
        if self.loss.caption and (self.data.shards or not self.data.captions):
            raise ValueError('loss.caption: expected data.captions, and folders, not shards')
        for name in ('student.classes', 'resident', 'loss.keep', 'loss.stand_in'):
            if attrgetter(name)(self):
                raise ValueError(f'{name}: expected data.sources beside it, got none; list the '
                                 f'images there, or leave {name} out')

    def _check_sources(self) -> None:
        """Refuse what does not go together with sources."""
        data, used = self.data, self.loss.weights.keys()
        for name in ('data.shards', 'data.test', 'data.domains', 'data.split', 'data.captions',
                     'loss.caption', 'student.closed_set', 'views'):
            if given := attrgetter(name)(self):
                raise ValueError(f'data.sources: expected no {name} beside them, got {given}; '
                                 'leave it out, or name one folder as data.images instead')
        if self.resident and self.augmentation.rand_augment:
            raise ValueError('resident: expected no augmentation.rand_augment, which is not done '
                             'on the device; leave one of them out')
        if (wanting := used & NEED_TEACHER) and not any(one.teacher for one in data.sources):
            raise ValueError(f'loss: {", ".join(sorted(wanting))} learns from a teacher, but no '
                             "source has one; give a source teacher 'all', 'known' or 'start'")
        if (wanting := used & NEED_LABELS) and not any(
                one.names or one.named for one in data.sources):
            raise ValueError(f'loss: {", ".join(sorted(wanting))} learns from names, but no '
                             'source has any; give a source a file of names, or say it is named')
        if self.student.classes and self.student.weights in ('', 'hub', 'teacher'):
            raise ValueError('student.classes: expected the file that the classifier is in as '
                             f'student.weights, got {self.student.weights!r}')
