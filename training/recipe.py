"""
Recipes: all settings of a training, as one frozen value; settings that do not fit are refused.

`recipe_file.py` reads them from YAML. Every field can be changed on the command line:
`distill.py --help` lists them. This file is long because it is the one list of all settings.
"""
from dataclasses import dataclass, field
import math
from operator import attrgetter
from pathlib import Path
import re

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
OF_SCENES = {'presence', 'mse', 'im_cst', 'img_cos', 'centred'}  # terms for many labels per image
ADDRESS = re.compile(r'([a-z][a-z0-9+.-]*):/+(.*)')


def address_of(folder: Path) -> str:
    """
    Return the address that a path was written as, such as s3://bucket/prefix; '' for a folder.

    A path keeps one slash where an address has two.
    """
    found = ADDRESS.fullmatch(str(folder))
    if found:
        return '://'.join(found.groups())
    return str(folder) if str(folder).startswith('pipe:') else ''  # webdataset's; it is refused


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images; defaults of VL2V (Addepalli et al., CVPR 2024)."""

    scale: tuple[float, float] = (0.7, 1.0)
    """Smallest and largest area of a random crop, as fractions of the image."""
    flip: float = 0.5  # Probability of mirroring an image.
    jitter: float = 0.3
    """Largest change of brightness, contrast and saturation, as a fraction."""
    hue: float = 0.3  # Largest change of hue, as a fraction of the colour circle, at most 0.5.
    grey: float = 0.1  # Probability of turning an image grey.
    blur: float = 0.0
    """Largest blur of an image, the length of a motion or the diameter of a disk out of focus, as
    a fraction of its side; half of the images are blurred. 0: none."""
    rand_augment: tuple[int, int] | None = None
    """Number of operations and magnitude (0 to 30) of RandAugment; (2, 9) in the experiments of
    Li, Fang et al. (ICCV 2023); None: no RandAugment."""

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        operations, magnitude = self.rand_augment or (1, 0)
        check_ranges(self, (
            ('scale', 0 < self.scale[0] <= self.scale[1] <= 1, 'two rising fractions in (0, 1]'),
            ('flip', 0 <= self.flip <= 1, 'a probability in [0, 1]'),
            ('jitter', 0 <= self.jitter <= 1, 'a fraction in [0, 1]'),
            ('hue', 0 <= self.hue <= 0.5, 'a fraction of the colour circle in [0, 0.5]'),
            ('grey', 0 <= self.grey <= 1, 'a probability in [0, 1]'),
            ('blur', 0 <= self.blur <= 0.5, 'a fraction in [0, 0.5]'),
            ('rand_augment', operations >= 1 and 0 <= magnitude <= 30,
             'a number of operations and a magnitude of 0 to 30'),
        ))


@dataclass(frozen=True)
class Source:
    """One of several folders of images that a student learns from; see mixture.py."""

    images: Path
    """Folder of images, at any depth."""
    names: Path | None = None
    """YAML file that maps class folders to names; images of other folders have no name."""
    named: bool = False
    """Use the names of the class folders as names, instead of a file of names."""
    teacher: str = ''
    """Which embeddings to learn from. all: the teacher's; it is asked for missing ones; known: the
    cached ones of the teacher; images without one are left out; start: those of the student at the
    start of training, so that it changes little; '': none."""
    part: float = 1.0
    """Share of this source in each batch, relative to the other sources."""
    without: tuple[str, ...] = ()
    """Folders below `images` to leave out."""
    boxes: bool = False
    """Learn from the objects of COCO annotations in `images`, each cut out as the node cuts the
    boxes of a detector; the classes are those of the annotations."""

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        if self.named and self.names:
            raise ValueError('named: expected no file of names beside it, got both; leave one out')
        if self.boxes and self.without:
            raise ValueError(f'without: expected no folders beside boxes, got {self.without}; '
                             'name the folder of some annotations as images')
        if self.teacher not in ('', 'known', 'all', 'start'):
            raise ValueError(f"teacher: expected '', known, all or start, got {self.teacher!r}")
        if not 0 < self.part < math.inf:
            raise ValueError(f'part: expected a positive number, got {self.part!r}')


@dataclass(frozen=True)
class Data:
    """The images to train and test on, and the words for their classes."""

    images: Path = ROOT / 'data/ycb_sample/single'
    """Folder of images, <domain>/<class>/* or <class>/*; with `shards` a dataset of render.py,
    also at an address such as s3://bucket/prefix, see storage.py."""
    shards: bool = False
    """Read the WebDataset shards below `images` instead of folders; the teacher is asked in each
    step."""
    test: Path | None = None
    """Folder of images to test on; without it a part of `images` is held out. Shards need it."""
    hold_out: float = 0.2
    """Fraction of the images of each trained class and domain that is held out for the test."""
    domains: tuple[str, ...] = ()
    """Domains to train on; empty: all. The others are the unseen domains of the evaluation."""
    split: Path | None = None
    """File of an object split: train on its id classes, test its ood classes as well."""
    vocabulary: Path = ROOT / 'config/vocabularies/ycb.yaml'
    """Vocabulary file with descriptions of the labels (class names without number and _)."""
    enrich: bool = True
    """Use the descriptions of `vocabulary`; else labels alone."""
    templates: tuple[str, ...] = (TEMPLATE,)  # Templates of the prompts.
    sources: tuple[Source, ...] = ()
    """Learn from these sources instead of `images`. Nothing is tested then (see naming.py), and
    labels have no descriptions."""
    presence: tuple[str, ...] = ()
    """Templates of two prompts per label: that it is in the image, and that it is not. The images
    are then scenes with annotations, see scenes.py."""
    least_visible: float = 0.3
    """Objects of scenes with a smaller visible part count as absent."""
    few: int = 0
    """Number of images of each ood class of `split` to learn from afterwards, in few_stages; of
    scenes, the number of those that show ood classes."""
    captions: Path | None = None
    """CSV file with the columns file (below `images`) and caption, for the loss term caption."""


@dataclass(frozen=True)
class TeacherSource:
    """The teacher; see teacher.py. Paths are relative to the working folder."""

    model: str = str(ROOT / 'data/mini/mini_clip.json')
    """open_clip name, local open_clip config (*.json), http(s) address or module:callable."""
    pretrained: str = str(ROOT / 'data/mini/mini_clip.safetensors')
    """open_clip pretrained tag, or the weights file of a local config."""
    recording: Path | None = None
    """Recording of the teacher's answers, see recordings.py; its prompts are stored beside the
    student."""


@dataclass(frozen=True)
class StudentSource:
    """The student to train."""

    backbone: str = 'mobilenetv2_100'
    """timm model name."""
    weights: str = 'teacher'
    """First weights. '': random; 'hub': timm's pretrained; 'teacher': the teacher's image tower
    (VL2V-SD); else a file (*.safetensors) with weights for the backbone, or a student."""
    image_size: int = 128
    """Side of the input images [px]."""
    projector: str = 'linear'
    """Layer from features to embeddings: linear or mlp."""
    dropout: float = 0.0
    """Fraction of the features that is replaced by their mean while the projector learns."""
    classes: Path | None = None
    """YAML list of the class names of the classifier in the weights file, in its order; for the
    loss terms keep and stand_in. An mlp projector starts with the weights of that classifier."""
    freeze_batch_norm: bool = True
    """Do not update the statistics of batch norms."""
    closed_set: bool = False
    """Learn one logit per class, as ERM and KD do. No student is written: it has no embeddings."""

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        try:
            check_backbone(self.backbone)
        except ValueError as error:
            raise ValueError(f'backbone: {error}') from error
        check_ranges(self, (
            ('image_size', self.image_size >= 1, 'at least 1 [px]'),
            ('dropout', 0 <= self.dropout < 1, 'a fraction in [0, 1)'),
            ('projector', self.projector in PROJECTORS, f'one of {", ".join(PROJECTORS)}'),
        ))


@dataclass(frozen=True)
class Stage:
    """A stage of the training: what is trained, how long, at which rate."""

    train: str = 'all'
    """Weights that learn: all, backbone or projector (or the linear head of a closed set)."""
    epochs: int = 10  # Passes over the training images.
    rate: float = 1e-3
    """Peak learning rate; it rises over the first tenth of the stage and falls along a cosine."""


@dataclass(frozen=True)
class Loss:
    """Weights of the loss terms, see learning/losses.py; a term of weight 0 is not computed."""

    cls: float = 0.0  # Cross-entropy of the true label.
    mse: float = 0.0  # Squared distance to the teacher's embedding.
    im_cst: float = 0.0  # Contrast with the teacher's embeddings (InfoNCE).
    vlprox: float = 0.0  # Divergence from the teacher's scores of its k best labels.
    img_cos: float = 0.0  # Cosine to the teacher's embedding.
    centred: float = 0.0  # Cosine to the teacher's embedding, less the mean of the batch.
    txt_cos: float = 0.0  # Cosine to the prototype of the true label.
    kd: float = 0.0  # Divergence from the teacher's scores of all labels.
    caption: float = 0.0  # Contrast with embeddings of captions (InfoNCE).
    keep: float = 0.0  # Divergence from the scores of the backbone's own classifier.
    stand_in: float = 0.0  # The same for features made up for images of each class.
    presence: float = 0.0  # Asymmetric loss of the presence of each label in scenes.

    def __post_init__(self) -> None:
        """Check ranges; raises ValueError that names the field."""
        check_ranges(self, [(name, 0 <= weight < math.inf, 'a weight of 0 or more')
                            for name, weight in vars(self).items()])

    @property
    def weights(self) -> dict[str, float]:
        """Term -> weight, for weights above 0."""
        return {name: weight for name, weight in vars(self).items() if weight}


@dataclass(frozen=True)
class Recipe:
    """The settings of one training."""

    name: str = 'ood'  # Name of the run, part of the name of its folder.
    data: Data = Data()
    teacher: TeacherSource = TeacherSource()
    student: StudentSource = StudentSource()
    stages: tuple[Stage, ...] = (Stage(),)
    few_stages: tuple[Stage, ...] = (Stage(epochs=20, rate=3e-4),)  # For the images of data.few.
    few_share: float = 0.5
    """Part of each batch of few_stages that data.few makes up, the others are those of before, so
    that these are not forgotten (few-shot training of Li, Fang et al.); 1: all of it."""
    loss: Loss = Loss(cls=1.0, im_cst=1.0)
    temperature: float = 0.07  # Cosines are divided by it before a softmax.
    k: int = 5
    """Number of the teacher's best labels that the loss term vlprox compares."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    views: int = 0
    """Augmented views of each image that the teacher embeds; 0: it embeds the plain image only."""
    optimizer: str = 'adamw'
    """Name of an optimizer of timm."""
    weight_decay: float = 0.01  # Weight decay of the optimizer.
    average: float = 0.0
    """Average the weights over this last fraction of each stage (after SWAD); 0: no average."""
    batch: int = 64
    """Images per step, over all processes."""
    seed: int = 0  # Seed of all random numbers.
    precision: str = '32-true'
    """Precision of Lightning Fabric: 32-true, bf16-mixed or 16-mixed."""
    device: str = 'auto'  # Device to train on: auto, cpu or cuda.
    workers: int = 1
    """Processes that load images."""
    resident: bool = False
    """Decode all images once and keep them on the device (only with sources), see resident.py."""
    out: Path = ROOT / 'runs'
    """Folder of all runs; each run makes a folder <name>_seed<seed> in it."""
    save_every: int = 100
    """Steps between two saved states, from which a stopped run can be resumed."""

    def __post_init__(self) -> None:
        """Check ranges and combinations; raises ValueError that names the field."""
        closed = ('presence',) if self.data.presence else ('cls', 'kd')
        check_ranges(self, (
            ('stages', self.stages and all(stage.train in TRAINED and stage.epochs >= 1
                                           and 0 < stage.rate < math.inf
                                           for stage in (*self.stages, *self.few_stages)),
             f'at least one, each training one of {", ".join(TRAINED)}, with epochs >= 1 and a '
             'positive rate'),
            ('name', self.name and '/' not in self.name, 'a name for a folder'),
            ('temperature', 0 < self.temperature < math.inf, 'a positive number'),
            ('k', self.k >= 1, 'at least 1'),
            ('views', self.views >= 0, '0 or more'),
            ('weight_decay', 0 <= self.weight_decay < math.inf, '0 or more'),
            ('average', 0 <= self.average <= 1, 'a fraction in [0, 1]'),
            ('batch', self.batch >= 2, 'at least 2'),
            ('seed', self.seed >= 0, '0 or more'),
            ('precision', self.precision in PRECISIONS, f'one of {", ".join(PRECISIONS)}'),
            ('workers', self.workers >= 0, '0 or more'),
            ('save_every', self.save_every >= 1, 'at least 1'),
            ('student.classes', self.student.classes or not (
                self.loss.keep or self.loss.stand_in), 'a file, for loss.keep and loss.stand_in'),
            ('loss.weights', self.loss.weights, 'a weight above 0 for at least one term'),
            ('loss.weights', not self.student.closed_set or self.loss.weights.keys() <= {*closed},
             f'{" and ".join(closed)} alone with student.closed_set, which learns no embedding'),
            ('data.hold_out', 0 < self.data.hold_out < 1, 'a fraction in (0, 1)'),
            ('data.least_visible', 0 <= self.data.least_visible <= 1, 'a fraction in [0, 1]'),
            ('data.few', self.data.few >= 0, '0 or more'),
            ('few_share', 0 < self.few_share <= 1, 'a fraction in (0, 1]'),
        ))
        self._check_scenes()
        if self.data.sources:
            self._check_sources()
        else:
            self._check_folders()

    def _check_scenes(self) -> None:
        """Refuse settings that do not fit scenes, and those of scenes without them."""
        data = self.data
        if not (data.presence or self.loss.presence):
            return
        if len(data.presence) != 2 or not all('{label}' in one for one in data.presence):
            raise ValueError('data.presence: expected two templates with the place {label}, as '
                             f'loss.presence needs them, got {data.presence}')
        if not (data.split and data.test):
            raise ValueError('data.presence: expected paths as data.split and data.test too, '
                             f'got {data.split} and {data.test}')
        for name in ('data.shards', 'data.sources', 'data.domains', 'data.captions'):
            if given := attrgetter(name)(self):
                raise ValueError(f'data.presence: expected no {name} beside it, got {given}')
        if wrong := sorted(self.loss.weights.keys() - OF_SCENES):
            raise ValueError(f'loss: expected terms of {", ".join(sorted(OF_SCENES))} for scenes, '
                             f'got {", ".join(wrong)}')

    def _check_folders(self) -> None:
        """Refuse settings that need sources, and a caption term without captions."""
        data = self.data
        if address_of(data.images) and not data.shards:
            raise ValueError('data.images: expected data.shards beside the address '
                             f'{address_of(data.images)}, as only shards are read from one, got '
                             'none; set it, or name a folder')
        if data.test and address_of(data.test):
            raise ValueError('data.test: expected a folder on disk, got the address '
                             f'{address_of(data.test)}; copy the test images here')
        if self.data.few and (self.data.shards or not self.data.split):
            raise ValueError('data.few: expected an object split as data.split, and folders of '
                             f'images, got {self.data.split or "none"}'
                             f'{" and shards" * self.data.shards}; name one, or set it to 0')
        if self.loss.caption and (self.data.shards or not self.data.captions):
            raise ValueError('loss.caption: expected a file as data.captions, and folders of '
                             'images, got none or shards; add them, or leave the term out')
        for name in ('student.classes', 'resident', 'loss.keep', 'loss.stand_in'):
            if attrgetter(name)(self):
                raise ValueError(f'{name}: expected data.sources beside it, got none; list the '
                                 f'images there, or leave {name} out')

    def _check_sources(self) -> None:
        """Refuse settings that do not fit sources."""
        data, used = self.data, self.loss.weights.keys()
        for name in ('data.shards', 'data.test', 'data.domains', 'data.split', 'data.captions',
                     'data.few', 'loss.caption', 'student.closed_set', 'views'):
            if given := attrgetter(name)(self):
                raise ValueError(f'data.sources: expected no {name} beside them, got {given}; '
                                 'leave it out, or name one folder as data.images instead')
        if self.resident and self.augmentation.rand_augment:
            raise ValueError('resident: expected no augmentation.rand_augment, which cannot run '
                             'on the device, got both; leave one of them out')
        if (wanting := used & NEED_TEACHER) and not any(one.teacher for one in data.sources):
            raise ValueError(f'loss: {", ".join(sorted(wanting))} learns from a teacher, but no '
                             "source has one; give a source teacher 'all', 'known' or 'start'")
        if (wanting := used & NEED_LABELS) and not any(
                one.names or one.named for one in data.sources):
            raise ValueError(f'loss: {", ".join(sorted(wanting))} learns from names, but no '
                             'source has any; give a source a file of names, or say it is named')
        if self.student.classes and self.student.weights in ('', 'hub', 'teacher'):
            raise ValueError('student.classes: expected the file of the classifier as '
                             f'student.weights, got {self.student.weights!r}')
