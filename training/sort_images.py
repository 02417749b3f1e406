"""
Sort images without names into folders, by the names that a teacher's recorded answers give them.

python training/sort_images.py photos/clip_vit_b32.safetensors --images photos/recorded \
    --names config/names/coco.yaml --without cifar products --out photos/sorted

Writes <out>/<domain>/<name>/*; the domain is the folder of the image below --images. Each image
gets the name whose prompt has the highest cosine to it. Names with few images, or with images of
one domain only, are left out. The names are the teacher's opinion: the accuracy of a student on
them says how often it agrees with the teacher.
"""
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
import shutil
import sys
from typing import Annotated

import numpy as np
from training.data.class_names import read_classes
from training.teachers.embedding_cache import file_digests
import tyro
from vl2v_ros.images.folders import image_files
from vl2v_ros.words import recording
from vl2v_ros.words.recording import Recording
from vl2v_ros.words.vocabulary import prompt


def sort_images(answers: Annotated[Path, tyro.conf.Positional], images: Path, names: Path,
                out: Path, template: str = 'a photo of {a} {label}', least: int = 10,
                domains: int = 2, without: tuple[str, ...] = ()) -> dict[str, int]:
    """
    Copy images into folders of domains and names.

    :param answers: the recording (*.safetensors).
    :param images: folder of folders with images; images without an answer are left out.
    :param names: YAML list of names; the recording must have their prompts.
    :param out: the folder to write; it must not exist.
    :param template: template of the prompts.
    :param least: number of images that a name needs, over all domains.
    :param domains: number of domains in which a name needs images; with 2, each domain can be left
        out of a training.
    :param without: domains to leave out.
    :return: name -> number of images, most first.
    :raises ValueError: for a folder that exists, a prompt that is not recorded, or images without
        any answer.
    """
    if out.exists():
        raise ValueError(f'--out: expected a new folder, but {out} exists; delete it or choose '
                         'another')
    found, classes = recording.read(answers), read_classes(names)
    prototypes = prompt_rows(found, classes, template)
    files = [images / file for file in image_files(images) if domain(file) not in without]
    rows = {digest.tobytes().hex(): row for digest, row in zip(
        found.image_digests, found.image_rows, strict=True)}
    known = {file: rows[digest] for file, digest in zip(files, file_digests(files), strict=True)
             if digest in rows}
    if not known:
        raise ValueError(f'--images: expected images with an answer in {answers}, found none in '
                         f'{images}; answers are found by the content of the files')
    best = (np.array(list(known.values()), np.float32) @ prototypes.T).argmax(1)
    called = {file.relative_to(images): classes[number]
              for file, number in zip(known, best, strict=True)}
    counts = Counter(called.values())
    domain_counts = Counter(name for _, name in {
        (domain(file), name) for file, name in called.items()})
    used = {name: count for name, count in counts.most_common()
            if count >= least and domain_counts[name] >= domains}
    if not used:
        most = ', '.join(f'{name} ({count})' for name, count in counts.most_common(3))
        raise ValueError(f'--least: expected a name with {least} images in {domains} domains, '
                         f'found none; the names with most images are {most}')
    partial = out.with_name(f'{out.name}.part')
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was stopped
    for file, name in called.items():
        if name in used:
            target = partial / domain(file) / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(images / file, target / '_'.join(file.parts[1:] or file.parts))
    partial.rename(out)
    return used


def domain(file: PurePath) -> str:
    """Return the outermost folder of a file, '' for none."""
    return file.parts[0] if len(file.parts) > 1 else ''


def prompt_rows(found: Recording, names: Sequence[str], template: str) -> np.ndarray:
    """Return the (C, D) float32 rows of the names' prompts; raises ValueError for unknown ones."""
    rows = {name: found.find(prompt(template, name)) for name in names}
    if missing := [name for name, row in rows.items() if row is None]:
        raise ValueError(f'--names: the recording has no answer to {template!r} for '
                         f'{", ".join(missing)}; leave them out, or record them')
    return np.array([rows[name] for name in names], np.float32)


def main() -> None:
    """Sort as the command line says, and print the number of images of each name."""
    try:
        counts = tyro.cli(sort_images, description=__doc__)
        print(f'{sum(counts.values())} images of {len(counts)} names: ' + ', '.join(
            f'{name} {count}' for name, count in counts.items()))
    except (ValueError, OSError) as error:
        sys.exit(f'sort_images: {error}')


if __name__ == '__main__':
    main()
