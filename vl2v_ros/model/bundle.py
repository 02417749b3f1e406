"""
Bundles: one folder with all that a robot needs to label images without a network or a cache.

    student.safetensors, student.graph     the student, and how a CPU runs it without a conversion
    known_prompts.safetensors              the embeddings of its prompts
    vocabulary.yaml                        the labels to start with
    parameters.yaml                        parameters of the node, if there are any
    student_text.json, ....safetensors     the text tower, if it was wanted
    LICENCES.txt                           where weights and embeddings come from
    manifest.json                          size and digest of each file, and what made them

The manifest finds damage; it does not prove who made the bundle.
"""
from pathlib import Path
from typing import Any

from vl2v_ros.files import brief, digest, read_json, write_json

FORMAT, VERSION = 'vl2v_bundle', 1
MANIFEST = 'manifest.json'
STUDENT, VOCABULARY, PARAMETERS = 'student.safetensors', 'vocabulary.yaml', 'parameters.yaml'


def write_manifest(folder: Path, made_with: dict[str, str]) -> None:
    """
    Write the manifest of all files in a folder, atomically.

    :param made_with: versions of packages, by name.
    """
    files = {path.name: {'bytes': path.stat().st_size, 'sha256': digest(path)}
             for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    content = {'format': FORMAT, 'version': VERSION, 'made_with': made_with, 'files': files}
    write_json(folder / MANIFEST, content)


def check(folder: Path) -> dict[str, Any]:
    """
    Compare a bundle with its manifest, and return the manifest.

    :raises ValueError: if it is no bundle, of another version, or a file is missing, added or
        changed; what is hidden does not count.
    """
    if folder.is_file():
        raise ValueError(f'bundle {folder}: expected a folder, got a file; unpack it: '
                         f'`tar -xf {folder}`')
    if not (folder / MANIFEST).is_file():
        raise ValueError(f'bundle {folder}: expected a folder with {MANIFEST}, found none; make '
                         'one with vl2v_bundle, or correct the path')
    try:
        manifest = read_json(folder / MANIFEST)
        if manifest['format'] != FORMAT:
            raise ValueError(f'expected the format {FORMAT}, got {brief(manifest["format"])}')
        version, files = manifest['version'], dict(manifest['files'])
        wanted = {name: (int(about['bytes']), str(about['sha256']))
                  for name, about in files.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f'bundle {folder}: {MANIFEST} is damaged ({error}); copy the bundle '
                         'again') from error
    if version != VERSION:
        raise ValueError(f'bundle {folder}: expected version {VERSION}, got {brief(version)}; '
                         'update vl2v_ros, or make the bundle again')
    if bad := [name for name in wanted if Path(name).name != name]:
        raise ValueError(f'bundle {folder}: expected files in this folder, got {bad[0]!r}; copy '
                         'the bundle again')
    if missing := [name for name in (*wanted, STUDENT, VOCABULARY)
                   if not (folder / name).is_file() or name not in wanted]:
        raise ValueError(f'bundle {folder}: {missing[0]} is missing; copy the bundle again')
    if added := [path.name for path in sorted(folder.iterdir())
                 if path.name not in {*wanted, MANIFEST} and not path.name.startswith('.')]:
        raise ValueError(f'bundle {folder}: {added[0]} is not of this bundle; remove it, or make '
                         'the bundle again')
    for name, (size, sha) in wanted.items():
        if (folder / name).stat().st_size != size or digest(folder / name) != sha:
            raise ValueError(f'bundle {folder}: {name} is not as it was written; copy the bundle '
                             'again')
    return dict(manifest)
