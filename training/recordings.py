"""
Record a teacher's answers in one file, and import such a file into the caches of training.

python training/recordings.py record --teacher.model ViT-L-14 --teacher.pretrained openai \
    --images PHOTOS --prompts prompts.txt --licence 'CC BY 4.0, mine' --out answers.safetensors
python training/recordings.py import answers.safetensors --images PHOTOS
python training/recordings.py from-npz images.npz texts.npz --identity ViT-L-14-quickgelu/openai \
    --image-size 224 --licence 'CC BY 4.0, mine' --out answers.safetensors
python training/recordings.py merge answers.safetensors   # what `record --part K/N` has written

After the import, training with the same teacher asks it only for what the file lacks; if it lacks
nothing, an open_clip model is not even loaded. `record` uses the caches, so the same command
resumes one that was stopped. vl2v_ros/words/recording.py describes the format of the file.
"""
from collections.abc import Sequence
from pathlib import Path
import sys
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm
from training.data.image_index import Index, make_index, without_corrupt
from training.data.task import report_corrupt
from training.learning.trainee import open_device
from training.recipe import TeacherSource
from training.teachers import opening, parts
from training.teachers.embedding_cache import CachedTeacher, embeddings, file_digests
from training.teachers.queries import CountedText, NAMED, Queries
from training.teachers.recorded import check_identity, half, keep
from training.teachers.teacher import unit_rows
import tyro
from vl2v_ros.files import one_line, shown
from vl2v_ros.images.folders import image_files
from vl2v_ros.words import recording
from vl2v_ros.words.cached_text import default_cache_dir
from vl2v_ros.words.recording import Recording

Files = Annotated[tuple[Path, ...], tyro.conf.Positional]


def record(out: Path, licence: str, teacher: TeacherSource = TeacherSource(),
           images: Path | None = None, prompts: Path | None = None, device: str = 'auto',
           batch: int = 64, workers: int = 1, part: str = '1/1') -> None:
    """
    Ask a teacher, and write its answers.

    :param out: the recording to write (*.safetensors).
    :param licence: licence of the answers, and who made them.
    :param images: folder of images, at any depth; they are resized as on the robot.
    :param prompts: text file with a prompt per line; after a tab, the plain name of the thing
        that the prompt is about may follow.
    :param device: device that runs the teacher: auto, cpu or cuda.
    :param batch: images per query.
    :param workers: processes that read images.
    :param part: K/N: take part K of N of the images only, and write OUT.KofN.safetensors beside
        `out`; each of N workers takes another part, and `merge` makes one recording of all.
    :raises ValueError: for a teacher, images or prompts that cannot be read.
    """
    if images is None and prompts is None:
        raise ValueError('expected --images, --prompts or both, got none')
    mine = parts.parse(part)
    if images is None and mine.count > 1:
        raise ValueError('--part: expected --images beside it, as prompts have no parts, got none')
    if batch < 1:
        raise ValueError(f'--batch: expected at least 1, got {batch}')
    all_said = {} if prompts is None else read_prompts(prompts)
    names = [] if images is None else find_images(images)
    source, queries = opening.open_teacher(teacher, str(open_device(device))), Queries()
    said = all_said if mine.number == 1 else {}
    with tqdm(total=len(said), desc='prompts', unit='prompt', disable=None) as bar:
        texts = CountedText(source, default_cache_dir(), queries, bar.update).encode(tuple(said))
        bar.update(len(said) - bar.n)  # what was cached
    if cut := [prompt for prompt, much in zip(said, texts.truncated, strict=True) if much]:
        print(f'{len(cut)} prompts are longer than the teacher reads, and were cut: {cut[0]!r:.80}'
              f'{" and others" if len(cut) > 1 else ""}')
    files: list[Path] = []
    rows: np.ndarray = np.empty((0, source.width))
    if images is not None and (share := mine.share(names, batch)):
        index = read_images(images, share)
        files = [images / file for file in index.files]
        cached = CachedTeacher(source, default_cache_dir() / mine.cache, queries)
        rows = embeddings(index, cached, batch=batch, workers=workers)[:, 0]
    write(Recording(source.identity, source.image_size if files else 0, licence, tuple(said),
                    tuple(said.values()), half(texts.rows), digests_of(files), half(rows),
                    mine.of(names, all_said)), mine.file(out))
    print(f'queries to the teacher: {queries}')


def from_npz(tables: Files, out: Path, identity: str, licence: str, image_size: int = 0,
             root: Path | None = None, without: tuple[str, ...] = ()) -> None:
    """
    Make a recording of tables (*.npz) of answers that were computed elsewhere.

    Each table has `embeddings` (N, D), and either `prompts` (N,), with or without `names` (N,), or
    `files` (N,), the images that were embedded. Training finds an answer by the content of its
    image file, so the files must be those that the teacher has embedded.

    :param tables: one or several tables (*.npz).
    :param out: the recording to write (*.safetensors).
    :param identity: identity of the teacher, as `record` would write it, such as
        ViT-L-14-quickgelu/openai.
    :param licence: licence of the answers, and who made them.
    :param image_size: side of the images that the teacher embedded [px]; not needed without
        images.
    :param root: folder that `files` are relative to; by default that of their table.
    :param without: leave out files whose path starts with one of these, such as images/blurred.
    """
    prompts: list[str] = []
    names: list[str] = []
    files: list[Path] = []
    texts, rows = [], []
    for path in tables:
        found = read_table(path)
        if 'prompts' in found:
            prompts += found['prompts']
            names += found.get('names', [''] * len(found['prompts']))
            texts.append(found['embeddings'])
        else:
            keep = [row for row, file in enumerate(found['files'])
                    if not file.startswith(without or '/')]
            files += [(root or path.parent) / found['files'][row] for row in keep]
            rows.append(found['embeddings'][keep])
    if not files and not prompts:
        raise ValueError('expected at least one table (*.npz) with answers, got none')
    if len({part.shape[1] for part in texts + rows}) > 1:
        raise ValueError('expected tables of one width, got '
                         f'{", ".join(str(part.shape[1]) for part in texts + rows)}')
    empty = np.empty((0, (texts + rows)[0].shape[1]))
    write(Recording(
        identity, image_size if files else 0, licence, tuple(prompts), tuple(names),
        half(np.concatenate([empty, *texts])), digests_of(files),
        half(np.concatenate([empty, *rows]))), out)


def import_files(files: Files, images: Path | None = None, teacher: str = '') -> None:
    """
    Import recordings into the caches of training; answers that are cached already stay.

    :param files: recordings (*.safetensors).
    :param images: folder of images, at any depth: print how many of them have an answer.
    :param teacher: expected identity of the teacher; by default any.
    :raises ValueError: for a damaged recording, or one of another teacher.
    """
    if not files:
        raise ValueError('expected at least one recording (*.safetensors), got none')
    answered: set[str] = set()
    for path in files:
        found = recording.read(path)
        try:
            check_identity(found, teacher)
            texts, pictures = keep(found, default_cache_dir())
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        answered |= {row.tobytes().hex() for row in found.image_digests}
        print(f'{path}: {found.identity}, width {found.width}: {len(set(found.prompts))} prompts, '
              f'{texts} of them new; {len(np.unique(found.image_digests, axis=0))} different '
              f'images, {pictures} of them new')
    if images is not None:
        names = [str(file) for file in image_files(images)]
        digests = dict(zip(names, file_digests([images / name for name in names]), strict=True))
        lacking = [file for file, digest in digests.items() if digest not in answered]
        named = f' ({", ".join(map(shown, lacking[:NAMED]))}{", ..." if lacking[NAMED:] else ""})'
        print(f'{images}: {len(digests) - len(lacking)} of {len(digests)} images have an answer, '
              f'{len(lacking)} have none{named if lacking else ""}; '
              f'{len(answered - set(digests.values()))} answers fit no image here')


def merge(out: Annotated[Path, tyro.conf.Positional]) -> None:
    """
    Make one recording of the parts that `record --part` has written beside it.

    :param out: the recording to write (*.safetensors), as `record` was told.
    :raises ValueError: for a part that is missing, damaged, or of another recording.
    """
    write(parts.merge(parts.find(out)), out)


def find_images(root: Path) -> list[str]:
    """Return the images at any depth of a folder; raises ValueError if there is none."""
    files = [str(file) for file in image_files(root)]
    if not files:
        raise ValueError(f'--images: expected a folder with images, found none in {root}')
    return files


def read_images(root: Path, files: Sequence[str]) -> Index:
    """Return images of a folder, without corrupt ones; raises ValueError if none can be read."""
    nothing = [''] * len(files)  # no classes and no domains
    index = without_corrupt(make_index(root, files, nothing, nothing), check=True)
    report_corrupt(index)
    return index


def read_prompts(path: Path) -> dict[str, str]:
    """Return prompt -> name; raises ValueError for a file without prompts."""
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'--prompts: {path}: expected a text file with a prompt per line: '
                         f'{one_line(error)}') from error
    said = {prompt: name.strip() for prompt, _, name in (
        line.partition('\t') for line in lines) if prompt.strip()}
    if not said:
        raise ValueError(f'--prompts: {path}: expected a prompt per line, found none')
    return said


def read_table(path: Path) -> dict[str, Any]:
    """Return the columns of a table of answers; raises ValueError for another file."""
    try:
        with np.load(path) as file:
            found = {name: np.asarray(file[name])
                     for name in ('embeddings', 'prompts', 'names', 'files') if name in file}
    except Exception as error:  # a damaged file leads numpy and zipfile into errors of any kind
        raise ValueError(f'{path}: expected a table of numpy (*.npz), but it is missing, cut off '
                         f'or of another format ({one_line(error)}); copy it again') from error
    embeddings = found.get('embeddings', np.empty(0))
    if embeddings.ndim != 2 or not {'prompts', 'files'} & found.keys() or not all(
            column.shape == (len(embeddings),) for name, column in found.items()
            if name != 'embeddings'):
        shapes = {name: column.shape for name, column in found.items()}
        raise ValueError(f'{path}: expected embeddings (N, D), and prompts (N,) and names (N,), '
                         f'or files (N,), found {shapes}')
    return {**{name: [str(entry) for entry in column] for name, column in found.items()
               if name != 'embeddings'},  # which as text would take most of the time
            'embeddings': unit_rows(embeddings, len(embeddings), embeddings.shape[1],
                                    f'{path}: embeddings')}


def digests_of(paths: Sequence[Path]) -> np.ndarray:
    """Return the (N, 32) uint8 digests of files; raises ValueError for a missing file."""
    data = bytes.fromhex(''.join(file_digests(paths)))
    return np.frombuffer(data, np.uint8).reshape(-1, recording.DIGEST)


def write(found: Recording, out: Path) -> None:
    """Write a recording, and print its content."""
    recording.write(found, out)
    print(f'{out}: answers of {found.identity} to {len(found.prompts)} prompts and '
          f'{len(found.image_rows)} images, {out.stat().st_size / 1e6:.1f} MB')


def main() -> None:
    """Do what the command line says."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            {'record': record, 'merge': merge, 'import': import_files, 'from-npz': from_npz},
            description=__doc__)
    except ValueError as error:
        sys.exit(f'recordings: {error}')
    except OSError as error:
        sys.exit(f'recordings: stopped: {error}; what was done is kept, and the same command '
                 'resumes it')
    except KeyboardInterrupt:
        sys.exit('recordings: interrupted; the answers so far are cached: the same command '
                 'resumes it')


if __name__ == '__main__':
    main()
