"""
vl2v_bundle: one folder with all that a robot needs to label images without a network or a cache.

vl2v_bundle --checkpoint STUDENT.safetensors --vocabulary labels.yaml --out robot/
vl2v_bundle --check robot/
ros2 launch vl2v_ros classify.launch.py bundle:=robot/
"""
import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import shutil
import sys
import tarfile

import numpy as np
from vl2v_ros.files import one_line, read_yaml, replacing, share
from vl2v_ros.labeller import Labeller
from vl2v_ros.model import bundle, checkpoint
from vl2v_ros.model.runtime import outline
from vl2v_ros.model.spec import StudentSpec
from vl2v_ros.words import recording, vocabulary_file
from vl2v_ros.words.encoder import TextTower
from vl2v_ros.words.recording import DIGEST, Recording
from vl2v_ros.words.vocabulary import Vocabulary

PROMPTS, TEXT, LICENCES = 'known_prompts.safetensors', 'student_text', 'LICENCES.txt'
PACKAGES = 'vl2v_ros', 'openvino', 'open_clip_torch', 'timm', 'torch'


def make(student: Path, words: str, out: Path, parameters: Path | None = None,
         text_tower: bool = False) -> list[str]:
    """
    Write a bundle, atomically; one that is there already is replaced.

    :param words: labels separated by commas, or a vocabulary file.
    :param parameters: YAML file with parameters of the node.
    :param text_tower: put the text tower into it, for words that are not in the vocabulary.
    :return: what was done, for people.
    :raises ValueError: for inputs that cannot be used, and for another folder at `out`.
    :raises OSError: if it cannot be written.
    """
    if out.exists() and not (out / bundle.MANIFEST).is_file():
        raise ValueError(f'--out {out}: expected a new folder, or a bundle to replace, got '
                         'something else; choose another name')
    given = _checked(parameters) if parameters else None
    labeller = Labeller.open(student, 'cpu')
    file = vocabulary_file.parse(words).read_examples(labeller.origin)
    known = labeller.vocabulary(file)
    with replacing(out) as folder:
        folder.mkdir()
        tower, said = _tower(replace(labeller.spec.text_tower,
                                     identity=labeller.encoder.identity),
                             student.parent, folder, text_tower)
        prompts = _prompts(known, labeller.spec, student.parent, tower.identity)
        recording.write(prompts, folder / PROMPTS)
        spec = replace(labeller.spec, text_tower=replace(tower, recording=PROMPTS))
        checkpoint.write_spec(student, spec, folder / bundle.STUDENT)
        _graph(student, folder / bundle.STUDENT)
        vocabulary_file.save(file, folder / bundle.VOCABULARY, labeller.origin)
        if given:
            (folder / bundle.PARAMETERS).write_bytes(given)
        (folder / LICENCES).write_text(_licences(spec, prompts), encoding='utf-8')
        bundle.write_manifest(folder, versions())
        if out.exists():
            os.replace(out, folder.parent / 'before')  # which is deleted with its folder
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    said.append(f'{out}: {size:.1f} MB, {len(known.labels)} labels, {len(prompts.prompts)} '
                'prompts')
    return [*([known.note] if known.note else []), *said]


def _tower(tower: TextTower, source: Path, folder: Path, wanted: bool
           ) -> tuple[TextTower, list[str]]:
    """Return the text tower of the bundle, and put its files there if they are wanted."""
    if not wanted:
        return tower, ['the text tower is left out: the robot can name what is in the bundle, and '
                       'needs a network for other words; --text-tower puts it in']
    if tower.is_local:
        for name in (tower.model, tower.pretrained):
            shutil.copyfile(source / name, folder / Path(name).name)
        return replace(tower, model=Path(tower.model).name,
                       pretrained=Path(tower.pretrained).name), []
    from vl2v_ros.words.clip_text import load_clip, open_clip_config, write_text
    return write_text(load_clip(tower, source), open_clip_config(tower), folder, TEXT), []


def _prompts(known: Vocabulary, spec: StudentSpec, source: Path, identity: str) -> Recording:
    """Return the prompts of a vocabulary, and those that were recorded beside the checkpoint."""
    labels = (*known.labels, *[''] * len(known.background))
    rows = {text: (labels[number], row) for text, number, row in zip(
        known.prompts, known.prompt_labels, known.prompt_rows.astype(np.float16), strict=True)}
    licence = ''
    if spec.text_tower.recording:
        before = recording.read(source / spec.text_tower.recording)
        licence = before.licence
        rows |= {text: (name, row) for text, name, row in zip(
            before.prompts, before.names, before.prompt_rows, strict=True)}
    names, embeddings = zip(*rows.values(), strict=True)
    return Recording(
        identity, 0, licence or f'as the text tower {spec.text_tower.identity}', tuple(rows),
        names, np.stack(embeddings), np.zeros((0, DIGEST), np.uint8),
        np.zeros((0, spec.width), np.float16))


def _graph(source: Path, student: Path) -> None:
    """
    Write the outline of a student beside it: that of its source, which has the same weights.

    :raises ValueError: if the source has none, and cannot be converted.
    """
    graph = student.with_suffix(outline.SUFFIX)
    with suppress(ValueError):
        before = outline.read(source.with_suffix(outline.SUFFIX), source.read_bytes())
        outline.write(graph, before, student.read_bytes())
        return
    try:
        from vl2v_ros.model.runtime.openvino_graph import write_outline
        write_outline(student, graph)
    except (ImportError, RuntimeError) as error:
        raise ValueError('a bundle needs torch, and an OpenVINO that can convert the student: '
                         f'{one_line(error)}') from error


def _checked(parameters: Path) -> bytes:
    """Return the content of a parameter file; raises ValueError for another YAML file."""
    try:
        content = read_yaml(parameters)
        if not (isinstance(content, dict)
                and all('ros__parameters' in node for node in content.values())):
            raise ValueError('expected `ros__parameters:` below the name of each node')
    except (ValueError, TypeError) as error:
        raise ValueError(f'--params {parameters}: expected a file of ROS parameters: '
                         f'{one_line(error)}') from error
    return parameters.read_bytes()


def _licences(spec: StudentSpec, prompts: Recording) -> str:
    said = {'software': 'vl2v_ros, Apache-2.0', 'student': spec.backbone,
            'its weights': spec.licence or 'the checkpoint does not say',
            'its teacher': spec.teacher, 'trained on': spec.trained_on,
            'text tower': spec.text_tower.identity, 'embeddings of prompts': prompts.licence}
    lines = [f'{name}: {text}' for name, text in said.items() if text]
    for notice in (share() / 'NOTICE', share() / 'LICENSE'):
        if notice.is_file():
            lines += ['', f'---- {notice.name} of vl2v_ros ----', notice.read_text('utf-8')]
    return '\n'.join(lines) + '\n'


def versions() -> dict[str, str]:
    """Return the versions of the packages that make and run a bundle."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = 'not installed'
    return found


def pack(folder: Path) -> Path:
    """Write a bundle as one .tar beside it, atomically; the same bytes for the same files."""
    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ''
        return entry

    path = folder.parent / f'{folder.name}.tar'
    with replacing(path) as temporary, tarfile.open(temporary, 'w') as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, f'{folder.name}/{file.name}', filter=plain)
    return path


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='vl2v_bundle', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', type=Path, metavar='BUNDLE',
                        help='only compare a bundle with its manifest')
    parser.add_argument('--checkpoint', type=Path, help='student, *.safetensors; by default the '
                        'one in the package')
    parser.add_argument('--vocabulary', help='labels separated by commas, or a *.yaml file; by '
                        'default everyday things')
    parser.add_argument('--out', type=Path, help='folder to write')
    parser.add_argument('--params', type=Path, help='YAML file with parameters of the node')
    parser.add_argument('--text-tower', action='store_true', help='put the text tower into the '
                        'bundle, so that the robot can encode other words too')
    parser.add_argument('--tar', action='store_true', help='write OUT.tar, too')
    options = parser.parse_args(arguments)
    if bool(options.out) == bool(options.check):
        parser.error('expected --out FOLDER or --check BUNDLE')
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a bundle, or check one."""
    options = parse(arguments)
    try:
        if options.check:
            made = bundle.check(options.check).get('made_with', {})
            here = versions()
            other = [f'{name} {made[name]} (here {here[name]})' for name in here
                     if made.get(name, here[name]) != here[name]]
            print(f'{options.check}: as it was written'
                  + (f'; made with {", ".join(other)}' if other else ''))
            return
        student = options.checkpoint or share() / 'models/student.safetensors'
        words = options.vocabulary or str(share() / 'config/vocabularies/everyday.yaml')
        said = make(student, words, options.out, options.params, options.text_tower)
        if options.tar:
            said.append(f'{pack(options.out)}: the same as one file')
        print(*said, sep='\n')
    except ValueError as error:
        sys.exit(f'vl2v_bundle: {error}')
    except OSError as error:
        sys.exit(f'vl2v_bundle: {error.filename or options.out} cannot be read or written '
                 f'({error.strerror or error}); correct the path, or make room')


if __name__ == '__main__':
    main()
