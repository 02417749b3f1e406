"""
Measure the text space: how far apart the prototypes are, and what descriptions change.

`evaluate.py --text` compares labels alone with labels and descriptions, for the same student. It
measures the vocabularies in config/vocabularies and that of the recipe, as in table 6 and figure 4
of Li, Fang et al. (ICCV 2023); W are the (C, D) unit prototypes:

- mean cosine: over all pairs of two different rows of W; lower is better.
- eigenvalues: the ten largest of W W^T / C, which are also those of W^T W / C; all of them add up
  to 1. The mean is not subtracted, so the first belongs to the direction that all prototypes
  share, and is smaller if they are further apart.

On the recipe's test images of one object each it measures the accuracy, among the trained labels
and among all, as in the tables of evaluate.py; and how well the highest cosine to the trained
labels separates their images from those of other objects (AUROC, FPR95).
"""
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from training.data.task import read_task, shard_task, Task, vocabulary_of
from training.learning.trainee import outputs, Trainee
from training.measuring import metrics
from training.measuring.pages import charts
from training.measuring.pages.report import insert, markdown_table
from training.measuring.pages.tables import line
from training.recipe import Data, ROOT
from vl2v_ros.files import replacing, write_json
from vl2v_ros.model import checkpoint
from vl2v_ros.words import vocabulary, vocabulary_file
from vl2v_ros.words.cached_text import default_cache_dir, open_text_tower
from vl2v_ros.words.encoder import TextEncoder
from vl2v_ros.words.labels import Entry
from vl2v_ros.words.vocabulary import TEMPLATE, Vocabulary

SHIPPED = ROOT / 'config/vocabularies'
NAME = 'text_space'  # of the page, its marks, the plot and the numbers
ALONE, DESCRIBED = 'label alone', 'with descriptions'


def prototype_figures(path: Path, encoder: TextEncoder, templates: Sequence[str] = (TEMPLATE,)
                      ) -> tuple[list[dict[str, object]], list[str]]:
    """
    Measure the prototypes of a vocabulary file, for labels alone and with descriptions.

    Labels alone have no synonyms either.

    :param templates: templates for files without their own.
    :return: two rows, with the cosine in [-1, 1] and at most ten eigenvalues, falling; without a
        text tower for the descriptions one row. The second value is a note on what was left out.
    :raises ValueError: for a file that is no vocabulary, or has one label.
    """
    file = vocabulary_file.parse(str(path))
    rows, left_out = [], []
    for prompts, entries in ((ALONE, dict.fromkeys(file.entries, Entry())),
                             (DESCRIBED, file.entries)):
        words = vocabulary.build(entries, encoder, 1, file.templates or templates)
        if prompts == DESCRIBED and words.note:
            left_out.append(f'{path.stem}, {DESCRIBED}: {words.note}')
            continue
        try:
            cosine, eigenvalues = metrics.prototype_spread(torch.tensor(words.prototypes))
        except ValueError as error:
            raise ValueError(f'vocabulary {path}: {error}') from error
        rows.append({'prompts': prompts, 'labels': len(words.labels),
                     'too long': len(words.truncated), 'mean cosine': cosine,
                     'eigenvalues': eigenvalues})
    return rows, left_out


def vocabularies(data: Data) -> dict[str, Path]:
    """Return the shipped files by their names, and the recipe's by its path if it is another."""
    shipped = {path.stem: path for path in sorted(SHIPPED.glob('*.yaml'))}
    own = data.vocabulary
    return shipped if own.resolve() in shipped.values() else {**shipped, str(own): own}


def naming(rows: torch.Tensor, task: Task, words: Vocabulary) -> dict[str, float]:
    """
    Measure the accuracy with a vocabulary, as a row of evaluate.py's tables.

    :param rows: (N, D) unit embeddings of the task's test images.
    :return: the row, with AUROC and FPR95 of separating trained objects from others by the highest
        cosine to the trained labels, if there are images of both.
    """
    labels = torch.tensor(task.test.labels)
    similarities = rows @ torch.tensor(words.prototypes).T  # (N, C)
    known = labels < task.trained
    found = line(similarities, labels, ~known, task.trained)
    if known.any() and not known.all():
        best = similarities[:, :task.trained].amax(1)
        unknown = metrics.unknown_detection(best[known], best[~known])
        found |= {'AUROC': unknown.auroc, 'FPR95': unknown.fpr95}
    return found


def on_images(trainee: Trainee, data: Data, encoder: TextEncoder
              ) -> tuple[list[dict[str, object]], list[str]]:
    """
    Measure accuracy and unknown detection on the test images of a recipe, with both vocabularies.

    :return: the rows of a table, and what was left out.
    :raises ValueError: for images or words that do not fit the recipe.
    """
    if not data.images.is_dir():
        return [], [f'naming: expected images in {data.images}, found no such folder; name one as '
                    '--data.images']
    task = shard_task(data)[0] if data.shards else read_task(data)
    rows, _ = outputs(trainee, task.test)
    known = int((task.test.labels < task.trained).sum())
    counts = {'images of objects trained on': known, 'of others': len(rows) - known}
    table = [{'prompts': prompts, **counts, **naming(rows, task, vocabulary_of(
        task.labels, replace(data, enrich=enrich), encoder))}
        for prompts, enrich in ((ALONE, False), (DESCRIBED, True)) if data.enrich or not enrich]
    return table, [] if 'AUROC' in table[0] else [
        'unknown detection: expected test images of objects trained on and of others; name an '
        'object split as --data.split']


def run(path: Path, out: Path, data: Data, device: torch.device) -> str:
    """
    Measure the text space of a checkpoint; write numbers, plot and page, and return the tables.

    Writes out/results/text_space.json, out/images/text_space.png and out/text_space.md; in a page
    that exists, only the part between its marks is replaced.

    :raises ValueError: for an invalid checkpoint, text tower, vocabulary, image folder or page.
    """
    student = checkpoint.load(path)
    spec = student.spec
    encoder = open_text_tower(spec.text_tower, spec.width, path.parent, default_cache_dir())
    found, left_out = {}, []
    for name, file in vocabularies(data).items():
        try:
            found[name], more = prototype_figures(file, encoder, spec.templates)
            left_out += more
        except ValueError as error:
            if name == str(data.vocabulary):
                raise
            left_out.append(f'{name}: {error}')
    named, more = on_images(Trainee(student).to(device), data, encoder)
    left_out += more
    tables = (f'Text tower: {encoder.identity}. Student: {spec.trained_on or path.name}.\n\n'
              f'{markdown_table(eigenvalue_rows(found))}\n\n![The largest eigenvalues of the '
              f'prototypes](images/{NAME}.png)\n\n{markdown_table(named)}\n'
              + ''.join(f'\nLeft out: {reason}\n' for reason in left_out))
    write(out, found, tables, {
        'checkpoint': str(path), 'text_tower': encoder.identity, 'trained_on': spec.trained_on,
        'vocabularies': found, 'images': named, 'left_out': left_out})
    return tables


def eigenvalue_rows(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, object]]:
    """Return the rows of a table, a column for each eigenvalue."""
    return [{'vocabulary': name, **{key: row[key] for key in row if key != 'eigenvalues'},
             **{f'{number}.': value for number, value in enumerate(row['eigenvalues'], 1)}}
            for name, rows in found.items() for row in rows]


def write(out: Path, found: Mapping[str, Sequence[Mapping[str, Any]]], tables: str,
          numbers: Mapping[str, object]) -> None:
    """Write the files of `run`, each atomically."""
    page = out / f'{NAME}.md'
    if not page.exists():
        with replacing(page) as temporary:
            temporary.write_text(f'# Text space\n\n<!-- {NAME} -->\n<!-- end of {NAME} -->\n')
    insert(page, NAME, tables)
    write_json(out / 'results' / f'{NAME}.json', numbers)
    with charts.drawing(), replacing(out / 'images' / f'{NAME}.png') as temporary:
        charts.draw_eigenvalues({
            name: {row['prompts']: row['eigenvalues'] for row in rows}
            for name, rows in found.items()}).savefig(
                temporary, format='png', dpi=120, facecolor='white')
