"""
Ask a language model for a description of each label, and write a vocabulary file.

python training/enrich.py --labels labels.txt --out mine.yaml \
    --endpoint http://localhost:11434/v1 --model llama3.2

LABELS is a text file with a label per line, or a vocabulary file (*.yaml). Only labels without a
description are asked for; the rest of a vocabulary file is copied. Answers are cached by label,
model and question in ~/.cache/vl2v_ros, so the same command resumes one that was stopped. The key
is read from an environment variable (--key-variable, by default OPENAI_API_KEY).
"""
from dataclasses import dataclass, replace
from pathlib import Path
import shutil
import sys
from typing import Annotated

from tqdm import tqdm
import tyro
from vl2v_ros.files import replacing
from vl2v_ros.words import cached_text
from vl2v_ros.words.labels import add, check_entries, Entry
from vl2v_ros.words.language_model import describe, LanguageModel
from vl2v_ros.words.vocabulary_file import dump, parse, VocabularyFile


@dataclass(frozen=True)
class EnrichOptions:
    """The labels to describe, and the file to write."""

    labels: Path
    """Text file with a label per line, or a vocabulary file (*.yaml)."""
    out: Path
    """Vocabulary file to write (*.yaml); it may be the file of the labels."""
    llm: Annotated[LanguageModel, tyro.conf.arg(name='')]
    cache_dir: Path = cached_text.default_cache_dir()
    """Folder of cached answers; by default the cache of the node."""


def read(path: Path) -> VocabularyFile:
    """
    Read the labels of a vocabulary file, or of a text file with one per line.

    :raises ValueError: with file and line.
    """
    if path.suffix.lower() in {'.yaml', '.yml'}:
        return parse(str(path))
    try:
        lines = enumerate(path.read_text(encoding='utf-8-sig').splitlines(), 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'{path}: expected a text file with a label per line: {error}') from error
    rows = [(number, line) for number, line in lines if line.strip()]
    entries = check_entries([(label, Entry()) for _, label in rows],
                            lambda number: f'{path}, line {rows[number - 1][0]}')
    if not entries:
        raise ValueError(f'{path}: expected a label per line, found none')
    return VocabularyFile(entries)


def main() -> None:
    """Ask for missing descriptions, and write the file; exit with 1 if a label has no answer."""
    try:
        options = tyro.cli(EnrichOptions, description=__doc__)
        if options.out.suffix.lower() not in {'.yaml', '.yml'}:
            raise ValueError(f'expected a *.yaml file to write, got {options.out}')
        file = read(options.labels)
        missing = [label for label, entry in file.entries.items() if not entry.descriptions]
        with tqdm(total=len(missing), unit='label') as bar:
            answers = describe(missing, options.llm, options.cache_dir, lambda _: bar.update())
        entries = add(file.entries, {label: Entry((sentence,)) for label, sentence
                                     in answers.descriptions.items()})
        kept = file.examples_path  # named in the file; it has to lie beside it
        if kept and kept.parent.resolve() != options.out.parent.resolve():
            with replacing(options.out.with_name(kept.name)) as temporary:
                shutil.copyfile(kept, temporary)
        with replacing(options.out) as temporary:
            temporary.write_text(dump(replace(file, entries=entries)), encoding='utf-8')
    except (ValueError, OSError) as error:
        sys.exit(f'enrich: {error}')
    except KeyboardInterrupt:
        sys.exit('enrich: interrupted; the answers so far are cached: the same command resumes it')
    print(f'{options.out}: {len(answers.descriptions)} descriptions found, '
          f'{len(entries) - len(missing)} there before')
    for label, reason in answers.failures.items():
        print(f'failed: {label}: {reason}', file=sys.stderr)
    if answers.failures:
        sys.exit(f'enrich: {len(answers.failures)} labels have no description; the same command '
                 'asks for them again')


if __name__ == '__main__':
    main()
