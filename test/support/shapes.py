"""
Coloured shapes: drawn frames, and a toy student that names them, trained in seconds.

The toy is made the way a real student is: a text tower first, then a student distilled towards
that tower's prototypes. It knows nothing but colours and shapes.
"""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
import json
from pathlib import Path
import sys

import cv2
from filelock import FileLock
import numpy as np
import open_clip
from safetensors.torch import save
from timm.optim import create_optimizer_v2
import torch
from torch.nn import functional
from tqdm import tqdm
from vl2v_ros import files
from vl2v_ros.images.frame import Frame
from vl2v_ros.images.preprocess import preprocess, resize_on_cpu, to_unit_range
from vl2v_ros.model import checkpoint
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.model.student import Student
from vl2v_ros.words import vocabulary
from vl2v_ros.words.clip_text import ClipText
from vl2v_ros.words.encoder import identify, TextTower
from vl2v_ros.words.labels import check_labels

COLOURS = {'red': (205, 25, 30), 'orange': (245, 130, 10), 'yellow': (245, 225, 30),
           'green': (25, 150, 45), 'blue': (25, 60, 200), 'purple': (125, 35, 160),
           'white': (245, 245, 245)}  # RGB
SHAPES = ('circle', 'square', 'triangle', 'star', 'cross')
OTHER_SHAPES = ('moon', 'arrow')  # can be drawn, but the student has never seen them
LABELS = tuple(f'{colour} {shape}' for colour in COLOURS for shape in SHAPES)
# Neither drawn nor named in training: what the student makes of them, it puts together itself.
UNSEEN_LABELS = ('green star', 'blue triangle', 'white cross', 'yellow circle', 'orange square')
SEEN_LABELS = tuple(label for label in LABELS if label not in UNSEEN_LABELS)
# Of the corners, where these go evenly round.
RADII = {'circle': [1] * 64, 'square': [1] * 4, 'triangle': [1] * 3, 'star': [1, 0.42] * 5}

SIZE, WIDTH = 48, 32  # of the student's input [px] and embeddings
IMAGES, STEPS, BATCH = 4800, 240, 48
EMPTY_SHARE = 6  # one frame more that shows nothing, for so many that show a shape
TEXT_STEPS = 100
TEMPLATES = (vocabulary.TEMPLATE, '{label} {description}', 'a {label}. {description}',
             'the {label}', 'a picture of a {label}.', 'there is one {label} in front of us.')
DESCRIPTIONS = ('', 'It is flat and of one colour.', 'It lies on the floor of a room.')
TEXT_CONFIG = {'embed_dim': WIDTH,
               'vision_cfg': {'image_size': 32, 'layers': 1, 'width': 64, 'patch_size': 32},
               'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': 64, 'heads': 4,
                            'layers': 1}}


def draw(label: str, width: int, height: int, rng: np.random.Generator,
         place: tuple[float, float] | None = None) -> np.ndarray:
    """
    Draw one shape on an uneven ground, within the centred square.

    :param label: a colour and one of SHAPES or OTHER_SHAPES, or '' for the ground alone.
    :param width, height: of the frame [px].
    :param place: of the shape, from (-1, -1) at the square's upper left to (1, 1); random if None.
    :return: (H, W, 3) uint8 RGB.
    """
    levels = rng.uniform(40, 150) + rng.uniform(-30, 30, (*rng.integers(2, 9, 2), 1))
    ground = (levels + rng.uniform(-12, 12, 3)).clip(0, 255).astype(np.uint8)
    edges = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
    pixels = cv2.resize(ground, (width, height), interpolation=edges)
    if label:
        colour, shape = label.split()
        side = min(width, height)
        radius = side * rng.uniform(0.2, 0.45)
        anywhere = rng.uniform(-1, 1, 2)
        offset = np.array(anywhere if place is None else place) * (side / 2 - radius)
        centre = np.array([width, height]) / 2 + offset
        points = centre + radius * _outline(shape, rng.uniform(-0.45, 0.45))
        paint = np.array(COLOURS[colour]) * rng.uniform(0.8, 1.1) + rng.uniform(-10, 10, 3)
        cv2.fillPoly(pixels, [np.rint(16 * points).astype(np.int32)],
                     paint.clip(0, 255).tolist(), cv2.LINE_AA, shift=4)
    noise = rng.integers(0, 21, pixels.shape, np.uint8)
    return cv2.subtract(cv2.add(pixels, noise), (10, 10, 10, 0))


def _outline(shape: str, turn: float) -> np.ndarray:
    """Return (N, 2) corners within the unit circle, turned by an angle [rad] from upright."""
    arm = 0.3
    if shape in RADII:
        corners = _ring(RADII[shape])
    elif shape == 'cross':
        quarter = np.array([(0.95, -arm), (0.95, arm), (arm, arm)])
        corners = np.concatenate([quarter, quarter[:, ::-1] * (-1, 1), -quarter,
                                  quarter[:, ::-1] * (1, -1)])
    elif shape == 'arrow':
        half = np.array([(1, 0), (0, 0.7), (0, 0.25), (-0.9, 0.25)])
        corners = np.concatenate([half, half[:0:-1] * (1, -1)])
    else:
        assert shape == 'moon', shape
        disc = _ring(RADII['circle'])
        corners = np.concatenate([disc[10:55], (disc * 0.8 + (0.55, 0))[48:15:-1]])
    turn -= np.pi / 4 if shape == 'square' else np.pi / 2
    cosine, sine = np.cos(turn), np.sin(turn)
    return corners @ np.array([(cosine, sine), (-sine, cosine)])


def _ring(radii: Sequence[float]) -> np.ndarray:
    """Return (N, 2) corners, evenly around the origin, at these distances from it."""
    angles = np.arange(len(radii)) / len(radii) * 2 * np.pi
    return np.array(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def draw_sequence(folder: Path, labels: Sequence[str] = LABELS[::3], frames: int = 20,
                  width: int = 640, height: int = 480) -> None:
    """Write a folder of JPEG frames in which one shape after another goes round."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, label in enumerate(labels):
        for frame in range(frames):
            angle = 2 * np.pi * frame / frames
            picture = draw(label, width, height, np.random.default_rng(number),
                           (float(np.cos(angle)), float(np.sin(angle))))
            cv2.imwrite(str(folder / f'{number:02d}_{frame:02d}.jpg'), picture[..., ::-1])


def trained(folder: Path) -> Path:
    """Return the checkpoint that `train` writes; of several processes one trains it, once."""
    with FileLock(folder.with_suffix('.lock')):
        folder.mkdir(exist_ok=True)
        student = folder / 'shapes.safetensors'
        return student if student.is_file() else train(folder)


def train(folder: Path, seed: int = 0) -> Path:
    """
    Train text tower and student from nothing; the same seed gives the same files on one machine.

    :return: the checkpoint `<folder>/shapes.safetensors`; its text tower lies beside it.
    """
    with one_thread(), torch.random.fork_rng(devices=[]), \
            tqdm(total=TEXT_STEPS + STEPS, desc='training on coloured shapes') as progress:
        torch.manual_seed(seed)
        tower = _train_text(folder, progress)
        spec = StudentSpec('test_resnet', WIDTH, SIZE, tower, teacher='none: its own text tower',
                           trained_on=f'{IMAGES} drawings of coloured shapes')
        encoder, rng = ClipText(tower, folder), np.random.default_rng(seed)
        student = _train_student(spec, encoder, rng, progress)
        student.spec = replace(spec, unknown_threshold=_threshold(student, encoder, rng))
        path = folder / 'shapes.safetensors'
        checkpoint.save(student, path)
        with suppress(ImportError):  # of OpenVINO; with it, nodes of the tests start at once
            from vl2v_ros.model.runtime.openvino_graph import write_outline
            for suffix, cells in ('.graph', False), ('.cells', True):
                write_outline(path, path.with_suffix(suffix), cells)
    return path


@contextmanager
def one_thread() -> Iterator[None]:
    """Make the result independent of the number of cores, which gain little on nets this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train_text(folder: Path, progress: tqdm) -> TextTower:
    """
    Teach a text tower one direction per colour and shape, and for a label the sum; write it.

    The token embeddings stay random: they tell words apart well enough.
    """
    words = [*COLOURS, *SHAPES, *SEEN_LABELS]
    prompts = [vocabulary.prompt(template, word, description) for template in TEMPLATES
               for description in DESCRIPTIONS for word in words]
    tokens = open_clip.SimpleTokenizer()(prompts).view(-1, len(words), 77)  # (wordings, words, 77)
    directions = torch.linalg.qr(torch.randn(WIDTH, WIDTH))[0]
    names = (*COLOURS, *SHAPES)
    targets = torch.stack([sum(directions[names.index(name)] for name in word.split())
                           for word in words])
    clip = open_clip.CLIP(**TEXT_CONFIG)
    del clip.visual
    clip.token_embedding.requires_grad_(False)
    weights = [weight for weight in clip.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, TEXT_STEPS)
    for _ in range(TEXT_STEPS):
        wordings = torch.randint(len(tokens), (len(words),))  # another for each word
        rows = clip.encode_text(tokens[wordings, torch.arange(len(words))])
        loss = -functional.cosine_similarity(rows, targets).mean()
        _step(loss, optimizer, schedule, progress)
    with files.replacing(folder / 'shapes_text.json') as temporary:
        temporary.write_text(json.dumps(TEXT_CONFIG, indent=1))
    with files.replacing(folder / 'shapes_text.safetensors') as temporary:
        temporary.write_bytes(save({name: weight.half().contiguous()
                                    for name, weight in clip.state_dict().items()}))
    tower = TextTower('shapes_text.json', 'shapes_text.safetensors')
    return TextTower(tower.model, tower.pretrained, identify(tower, folder))


def _train_student(spec: StudentSpec, encoder: ClipText, rng: np.random.Generator,
                   progress: tqdm) -> Student:
    """
    Distill a student towards the prototypes of labels and of shapes.

    Frames that show nothing are pushed away from all labels.
    """
    prototypes, shape_prototypes = _prototypes(SEEN_LABELS, encoder), _prototypes(SHAPES, encoder)
    truth = torch.arange(IMAGES) % len(SEEN_LABELS)
    shape_truth = torch.tensor([SHAPES.index(label.split()[1]) for label in SEEN_LABELS])[truth]
    drawn, empty = (
        torch.from_numpy(resize_on_cpu(_frames(labels, count, rng), SIZE, spec.resize_mode))
        for labels, count in ((SEEN_LABELS, IMAGES), ([''], IMAGES // EMPTY_SHARE)))
    student = Student(spec).to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(student, 'muon', lr=0.04, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.04, STEPS, pct_start=0.2)
    for _ in range(STEPS):
        shown = torch.randint(len(drawn), (BATCH,))
        nothing = torch.randint(len(empty), (BATCH // EMPTY_SHARE,))
        images = to_unit_range(torch.cat([drawn[shown], empty[nothing]]))
        images = images.flip(3) if torch.rand(()) < 0.5 else images
        embeddings, nowhere = student(images).split((len(shown), len(nothing)))
        similarities = embeddings @ prototypes.T  # (B, C)
        loss = (functional.cross_entropy(similarities / spec.temperature, truth[shown])
                + functional.cross_entropy(embeddings @ shape_prototypes.T / spec.temperature,
                                           shape_truth[shown])
                + 5 * (1 - similarities.gather(1, truth[shown, None])).mean()
                + 2 * (nowhere @ prototypes.T).relu().square().sum(1).mean())
        _step(loss, optimizer, schedule, progress)
    return student.eval()


@torch.inference_mode()
def _threshold(student: Student, encoder: ClipText, rng: np.random.Generator) -> float:
    """Return the cosine half way between new frames that show nothing and such with a shape."""
    prototypes = _prototypes(SEEN_LABELS, encoder)
    best = [
        (student(preprocess(_frames(labels, 200, rng), SIZE, student.spec.resize_mode))
         @ prototypes.T).amax(1)
        for labels in ([''], SEEN_LABELS)]
    return float(best[0].quantile(0.99) + best[1].quantile(0.01)) / 2


def _prototypes(labels: Sequence[str], encoder: ClipText) -> torch.Tensor:
    return torch.tensor(vocabulary.build(check_labels(labels), encoder, 1).prototypes)


def _frames(labels: Sequence[str], count: int, rng: np.random.Generator) -> list[Frame]:
    """Draw a number of small frames, with the labels in turn."""
    return [Frame(draw(labels[index % len(labels)], *rng.integers(96, 200, 2).tolist(), rng))
            for index in range(count)]


def _step(loss: torch.Tensor, optimizer: torch.optim.Optimizer,
          schedule: torch.optim.lr_scheduler.LRScheduler, progress: tqdm) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    progress.update()


if __name__ == '__main__':
    trained(Path(sys.argv[1]))
