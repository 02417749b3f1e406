"""
Train the mini teacher: a small CLIP to use where no hub can be reached.

python training/render.py --meshes MESHES --out RENDERS --size 160 --count 100 --heaps 0
python training/pretrain_teacher.py --images RENDERS/single --backbone WEIGHTS.safetensors

It knows 51 YCB objects and the words of config/captions/ycb.yaml, and nothing else: no other
object, hardly another word, no real photo. It serves for trying and testing; for real use name a
real open_clip model in the recipe.

First the text tower learns: captions that are true of the same objects get near embeddings
(captions.py). Then the image tower, which starts as an ImageNet classifier, learns to put images
near their captions, while the text tower is frozen (as in LiT, Zhai et al., CVPR 2022, with the
roles of the towers exchanged). The targets of the softmax over captions are soft, as several
captions can be true of one image. The same command resumes a run from its last saved state.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
import itertools
import json
from pathlib import Path
import sys

from lightning_fabric import Fabric
import numpy as np
import open_clip
from safetensors.torch import load_file, save
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from training.data import captions
from training.data.captions import Facts
from training.data.image_index import Index, label_of, read_folders
from training.data.images import Images
from training.data.splits import select_classes
from training.data.task import report_corrupt
from training.learning import frozen_norms, loop
from training.learning.batches import on_device, quiet_worker
from training.learning.trainee import BATCH_NORMS
from training.recipe import Augmentation, ROOT
from training.teachers.teacher import OpenClipTeacher
import tyro
from vl2v_ros.files import replacing
from vl2v_ros.words import vocabulary, vocabulary_file
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.labels import Entry

PASSING = ('test', 'out', 'workers', 'save_every', 'device')  # may differ when resumed
WORDINGS = 24  # captions per class that images are compared with
TEXT_BATCH = 128
TEXT_SCALE, IMAGE_SCALE = 20.0, 30.0  # 1 / temperature of the two stages
AUGMENTATION = Augmentation(scale=(0.4, 1.0), jitter=0.4, hue=0.0, grey=0.0)  # captions have hues


@dataclass(frozen=True)
class PretrainOptions:
    """The settings of a training."""

    images: Path
    """Folder of renders to learn from, <domain>/<class>/*."""
    test: Path | None = None
    """Folder of renders of the same classes to test on, made with another seed."""
    backbone: Path | None = None
    """ImageNet weights of the image tower's trunk (*.safetensors); without it: random weights."""
    config: Path = ROOT / 'data/mini/mini_clip.json'
    """open_clip config of the model."""
    captions: Path = ROOT / 'config/captions/ycb.yaml'  # File of words for captions.
    descriptions: Path = ROOT / 'config/vocabularies/ycb.yaml'  # File of descriptions.
    out: Path = ROOT / 'data/mini/mini_clip.safetensors'  # Weights file to write.
    text_steps: int = 300  # Training steps of the text tower.
    epochs: int = 10  # Training epochs of the image tower.
    text_rate: float = 2e-3  # Peak learning rate of the text tower.
    image_rate: float = 3e-4  # Peak learning rate of the image tower.
    image_size: int = 128
    """Side of training images [px]; smaller than in use, because random crops enlarge objects
    (Touvron et al., NeurIPS 2019)."""
    batch: int = 64  # Images per step.
    seed: int = 0  # Seed of all random numbers.
    workers: int = 1  # Processes that load images.
    save_every: int = 100
    """Steps between two saved states, from which a stopped run can be resumed."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'  # Device to train on.


def read_facts(options: PretrainOptions, index: Index) -> list[Facts]:
    """Return the facts of each class; raises ValueError if some are missing."""
    described = vocabulary_file.parse(str(options.descriptions)).entries
    return captions.read_facts(options.captions, index.class_names, described)


def optimizer_of(weights: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer of a stage; it limits the norm of the gradient to 1."""
    decayed = [weight for weight in weights if weight.ndim > 1]
    others = [weight for weight in weights if weight.ndim <= 1]
    optimizer = torch.optim.AdamW([{'params': decayed, 'weight_decay': 0.05},
                                   {'params': others, 'weight_decay': 0.0}], betas=(0.9, 0.98))

    def limit(*_: object) -> None:
        nn.utils.clip_grad_norm_(weights, 1.0)

    optimizer.register_step_pre_hook(limit)
    return optimizer


def text_losses(model: open_clip.CLIP, facts: Sequence[Facts], options: PretrainOptions,
                fabric: Fabric, first: int) -> loop.Losses:
    """Yield the losses of the text tower: captions of the same classes get near embeddings."""
    tokenizer = open_clip.get_tokenizer(options.config.stem)
    optimizer = optimizer_of([weight for name, weight in model.named_parameters()
                              if not name.startswith(('visual.', 'logit_scale'))])
    itself = torch.eye(TEXT_BATCH, dtype=torch.bool, device=fabric.device)
    for step in itertools.count(first):
        rng = np.random.default_rng([options.seed, 0, step])
        said = [captions.caption(facts, int(number), rng)
                for number in rng.integers(len(facts), size=TEXT_BATCH)]
        true_of = functional.normalize(torch.tensor(np.stack([true for _, true in said])).float())
        wanted = (true_of @ true_of.T).to(fabric.device).masked_fill(itself, 0)  # (B, B)
        tokens = tokenizer([words for words, _ in said]).to(fabric.device)
        with fabric.autocast():
            rows = model.encode_text(tokens, normalize=True).float()  # (B, D)
        logits = (TEXT_SCALE * rows @ rows.T).masked_fill(itself, -1e4)
        yield optimizer, {loop.TOTAL: functional.cross_entropy(
            logits, wanted / wanted.sum(1, keepdim=True).clamp(min=1e-6))}


@torch.inference_mode()
def caption_bank(model: open_clip.CLIP, facts: Sequence[Facts], options: PretrainOptions
                 ) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (C, WORDINGS, D) unit embeddings of captions, and (C, WORDINGS, C) their classes."""
    rng = np.random.default_rng([options.seed, 1])
    said = [captions.caption(facts, number, rng)
            for number in range(len(facts)) for _ in range(WORDINGS)]
    tokens = open_clip.get_tokenizer(options.config.stem)([words for words, _ in said])
    rows = torch.cat([model.encode_text(part.to(options.device), normalize=True)
                      for part in tokens.split(TEXT_BATCH)])
    true_of = torch.tensor(np.stack([true for _, true in said]), device=options.device)
    shape = len(facts), WORDINGS, -1
    return rows.view(shape).clone(), true_of.view(shape).float().clone()


def image_losses(model: open_clip.CLIP, facts: Sequence[Facts], index: Index,
                 options: PretrainOptions, fabric: Fabric, first: int) -> loop.Losses:
    """Yield the losses of the image tower: images get near their captions, which stay."""
    tower = model.visual.to(memory_format=torch.channels_last)  # much faster on CPU
    mean, std = (torch.tensor(values, device=fabric.device).view(3, 1, 1)
                 for values in (tower.image_mean, tower.image_std))
    optimizer = optimizer_of(list(tower.parameters()))
    bank, true_of = caption_bank(model, facts, options)
    classes, side = torch.arange(len(facts), device=fabric.device), options.image_size
    tower.train()
    for module in tower.modules():  # folded into convolutions, so they have no statistics to learn
        if isinstance(module, BATCH_NORMS):
            module.eval()
    with frozen_norms.folded(tower, torch.rand(1, 3, side, side, device=fabric.device)):
        for step, (pixels, labels) in enumerate(batches(index, options, fabric, first), first):
            generator = torch.Generator().manual_seed(hash((options.seed, step)))
            wording = torch.randint(WORDINGS, (len(facts),), generator=generator)
            true = true_of[classes, wording]  # (caption, class)
            with fabric.autocast():
                rows = functional.normalize(tower((pixels - mean) / std).float(), dim=1)  # (B, D)
            wanted = (true / true.sum(1, keepdim=True))[:, labels].T  # true of few counts more
            yield optimizer, {loop.TOTAL: functional.cross_entropy(
                IMAGE_SCALE * rows @ bank[classes, wording].T,
                wanted / wanted.sum(1, keepdim=True))}


def batches(index: Index, options: PretrainOptions, fabric: Fabric, first: int
            ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (B, 3, S, S) images and (B,) labels of each step from the first on, without end."""
    images = Images(index, options.image_size, AUGMENTATION, seed=options.seed)
    per_epoch = len(index) // options.batch
    epoch, offset = divmod(first, per_epoch)
    for epoch in itertools.count(epoch):
        images.set_epoch(epoch)
        order = np.random.default_rng([options.seed, 2, epoch]).permutation(len(images))
        rows = order[:per_epoch * options.batch].reshape(per_epoch, -1)[offset:]
        for sample in DataLoader(images, batch_sampler=rows.tolist(), num_workers=options.workers,
                                 worker_init_fn=quiet_worker):
            yield on_device(fabric, sample.image), sample.label.to(fabric.device)
        offset = 0


def train(model: open_clip.CLIP, facts: Sequence[Facts], index: Index, options: PretrainOptions,
          state: Path) -> None:
    """
    Train both towers in place, or resume their training.

    :raises ValueError: for too few images, or the state of other options.
    :raises loop.Stopped, OSError: as Loop.run does.
    """
    per_epoch = len(index) // options.batch
    if not per_epoch:
        raise ValueError(f'{options.images}: expected at least as many images as --batch, '
                         f'{options.batch}, got {len(index)}')
    fabric = Fabric(accelerator=options.device, devices=1, precision='bf16-mixed')
    stages = (loop.StageLosses('text tower', options.text_steps, options.text_rate,
                               partial(text_losses, model, facts, options, fabric)),
              loop.StageLosses('image tower', options.epochs * per_epoch, options.image_rate,
                               partial(image_losses, model, facts, index, options, fabric)))
    settings = {name: str(value) for name, value in vars(options).items() if name not in PASSING}
    loop.Loop(fabric, model, 'pretrain_teacher', stages, state,
              {**settings, 'steps per epoch': per_epoch}, options.save_every).run()


def test(facts: Sequence[Facts], class_names: Sequence[str], options: PretrainOptions) -> None:
    """Print the accuracy of the written model by domain; raises ValueError for missing classes."""
    teacher = OpenClipTeacher(TextTower(str(options.config), str(options.out)), Path(),
                              options.device)
    assert options.test is not None
    index = select_classes(read_folders(options.test), class_names)
    words = vocabulary.build({fact.names[0]: Entry(fact.looks[:1]) for fact in facts}, teacher, 1)
    rows = np.concatenate([teacher.embed_images(sample.image) for sample in DataLoader(
        Images(index, teacher.image_size), options.batch)])  # (N, D)
    right = (rows @ words.prototypes.T).argmax(1) == index.labels
    for number, name in enumerate(index.domain_names):
        print(f'{name}: {right[index.domains == number].mean():.1%}')
    print(f'all: {right.mean():.1%}')


def main() -> None:
    """Train, test and write the model."""
    options = tyro.cli(PretrainOptions, description=__doc__)
    try:
        index = read_folders(options.images)
        report_corrupt(index)
        facts = read_facts(options, index)
        json.loads(options.config.read_text())
        open_clip.add_model_config(options.config)
        torch.manual_seed(options.seed)
        model = open_clip.create_model(options.config.stem).to(options.device)
        if options.backbone:
            model.visual.trunk.load_state_dict(
                {name: weight.float() for name, weight in load_file(options.backbone).items()})
        state = options.out.with_suffix('.state.pt')
        train(model, facts, index, options, state)
    except (ValueError, OSError, RuntimeError, loop.Stopped) as error:
        sys.exit(f'pretrain_teacher: {error}')
    except KeyboardInterrupt:
        sys.exit('pretrain_teacher: interrupted; the same command resumes from the last saved '
                 'state')
    with torch.no_grad():
        model.logit_scale.fill_(np.log(IMAGE_SCALE))
    with replacing(options.out) as temporary:
        temporary.write_bytes(save({name: weight.cpu().half().contiguous()
                                    for name, weight in model.state_dict().items()}))
    state.unlink(missing_ok=True)
    print(f'{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, '
          f'{", ".join(label_of(name) for name in index.class_names[:3])} and '
          f'{len(index.class_names) - 3} more')
    if options.test:
        test(facts, index.class_names, options)


if __name__ == '__main__':
    main()
