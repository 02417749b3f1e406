"""
Run a study: train several recipes with several seeds each, and write the table of results.

python training/study.py config/studies/ood_ablation.yaml --jobs 2

Each run is a process of distill.py that writes log.txt into its folder. The same command resumes a
study that was stopped: it does only the runs that are missing. The table goes into
docs/results.md, below the heading with the study's name; the numbers behind it go into
docs/results/<study>.json.
"""
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed, ThreadPoolExecutor
from dataclasses import dataclass, field
import json
import math
import os
from pathlib import Path
import re
import statistics
import sys
from typing import Any

from tqdm import tqdm
from training.learning import programs
from training.measuring.pages import charts
from training.measuring.pages.report import around, insert, markdown_table
from training.recipe import ROOT
from training.recipe_file import read
import tyro
from vl2v_ros.files import brief, one_line, read_yaml, replacing, write_json
import yaml

RESULT = 'result.json'  # of a run
PHOTOS = f'photos/{RESULT}'  # of a run whose student names photos
# Place of a column in result.json -> factor of its numbers, and the digits shown.
FORMATS = {**dict.fromkeys(('table', 'few', 'taught'), (100, 1)), 'photos': (1, 1),
           'figures': (1, 2)}
TEACHER = 'the teacher'
Result = Mapping[str, object]


@dataclass(frozen=True)
class Study:
    """
    A comparison of recipes.

    base: path of the recipe that all runs change, from the repository's root.
    common: changes that all runs make, as in a recipe file.
    arms: name -> the changes that only this arm makes.
    columns: column of the table -> its place in result.json: [table, row, column], [few, table,
    row, column] after few_stages, [taught, row, column], [figures, name], [photos, set, figure].
    tables: title of a table -> its columns; empty: one table of all.
    leave_out: domains to leave out, one per run, or several joined by +; each is a column.
    always: domains that are trained on in all runs.
    photos: sets of photos that each student names, as in naming.py.
    plot: title of a plot -> arm -> its number on the horizontal axis.
    """

    name: str
    base: str
    arms: dict[str, dict]
    columns: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)
    common: dict = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    leave_out: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    photos: tuple[str, ...] = ()
    plot: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of a study."""

    arm: str
    seed: int
    without: str
    folder: Path


@dataclass(frozen=True)
class StudyOptions:
    """The study to run, and where its results go."""

    study: tyro.conf.Positional[Path]
    """File of the study, see config/studies."""
    jobs: int = 1
    """Number of runs at the same time; they share the cores."""
    out: Path = ROOT / 'runs/studies'
    """Folder of the runs."""
    results: Path = ROOT / 'docs/results.md'
    """Page with the marks <!-- STUDY --> and <!-- end of STUDY -->; JSON and plots go into the
    folders results and images beside it."""
    device: str = 'auto'
    """Device to train on: auto, cpu or cuda."""
    sets: Path = ROOT / 'config/photo_sets.yaml'
    """File of the sets of photos."""
    data: Path = ROOT
    """Folder that holds the images of the sets of photos."""


def read_study(path: Path) -> Study:
    """Read a study; raises ValueError that names the file and the key."""
    try:
        study = Study(name=path.stem, **read_yaml(path))
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path}: {one_line(error)}; see Study in training/study.py') from error
    if not all(isinstance(value, dict) for value in (study.arms, study.columns, study.plot)):
        raise ValueError(f'{path}: expected mappings as arms, columns and plot, got '
                         f'{brief(study.arms)}, {brief(study.columns)} and {brief(study.plot)}')
    shape = [isinstance(one, dict) for one in (*filter(None, study.arms.values()),
                                               *study.plot.values())]
    shape += [isinstance(place, list) and place != [] for place in study.columns.values()]
    if not all(shape) or not isinstance(study.seeds, list | tuple):
        raise ValueError(f'{path}: expected changes of each arm, a number of each arm of a plot, '
                         f'a place of each column, and a list of seeds, got {brief(study.arms)}, '
                         f'{brief(study.plot)}, {brief(study.columns)} and {brief(study.seeds)}')
    drawn = {arm for arms in study.plot.values() for arm in arms}
    if not study.arms or not study.seeds or drawn - set(study.arms):
        raise ValueError(f'{path}: expected arms, seeds, and a plot of these arms, got '
                         f'{brief(list(study.arms))}, {brief(study.seeds)} and {brief(drawn)}')
    tables = study.tables.values() if isinstance(study.tables, dict) else [None]
    if not all(isinstance(names, list) and all(name in [*study.columns] for name in names)
               for names in tables):
        raise ValueError(f'{path}: tables: expected titles of columns for each title, '
                         f'got {brief(study.tables)}')
    if wrong := [title for title, place in study.columns.items()
                 if str(place[0]) not in FORMATS]:
        raise ValueError(f'{path}: columns: {one_line(wrong[0])}: expected a place that begins '
                         f'with {", ".join(FORMATS)}, got {brief(study.columns[wrong[0]])}')
    return study


def merged(first: Mapping, *others: Mapping) -> dict:
    """Merge changes into a mapping, level by level; `loss` is replaced as a whole."""
    result = dict(first)
    for other in others:
        for key, value in (other or {}).items():
            deeper = isinstance(value, Mapping) and key != 'loss'
            result[key] = merged(result.get(key) or {}, value) if deeper else value
    return result


def write_recipes(study: Study, options: StudyOptions) -> list[Run]:
    """Write the recipe of every run, and return the runs; raises ValueError for a wrong recipe."""
    base = yaml.safe_load((ROOT / study.base).read_text(encoding='utf-8'))
    runs = []
    for seed in study.seeds:  # the table has all arms as soon as the first seed is done
        for without in study.leave_out or ('',):
            for arm, changes in study.arms.items():
                recipe = merged(base, study.common, changes)
                name = re.sub(r'\W+', '_', f'{arm} {without}').strip('_')
                recipe |= {'name': name, 'seed': seed, 'device': options.device,
                           'out': str((options.out / study.name).absolute())}
                if without:
                    recipe.setdefault('data', {})['domains'] = [
                        domain for one in (*study.always, *study.leave_out)
                        if one != without for domain in one.split('+')]
                run = Run(arm, seed, without, options.out / study.name / f'{name}_seed{seed}')
                run.folder.mkdir(parents=True, exist_ok=True)
                path = run.folder / 'recipe.yaml'
                with replacing(path) as temporary:
                    temporary.write_text(yaml.safe_dump(recipe, sort_keys=False))
                read(path)
                runs.append(run)
    return runs


def execute(study: Study, options: StudyOptions, run: Run) -> None:
    """Do the missing parts of a run; raises RuntimeError with its last line if it fails."""
    program(run, 'distill.py', ['--config', run.folder / 'recipe.yaml'])
    if study.photos and not (run.folder / PHOTOS).is_file():
        program(run, 'naming.py', [
            'photos', '--checkpoint', run.folder / 'student.safetensors', '--sets', options.sets,
            '--data', options.data, '--out', (run.folder / PHOTOS).parent, '--only',
            *study.photos])


def program(run: Run, name: str, arguments: Sequence[object]) -> None:
    """Run one of training's programs; raises RuntimeError as `execute` does."""
    log = run.folder / 'log.txt'
    if programs.run(ROOT / 'training' / name, arguments, log):
        last = log.read_text(errors='replace').strip().splitlines()[-1:]
        raise RuntimeError(f'{run.folder.name}: {"".join(last)} (all of it: {log})')


def done(study: Study, run: Run) -> bool:
    """Return whether a run is complete."""
    return all((run.folder / name).is_file() for name in (RESULT, *[PHOTOS] * bool(study.photos)))


def value_of(result: Result, where: Sequence[str]) -> float:
    """Return a number of a result, NaN if it has none."""
    part: Any = result
    for name in where:
        if isinstance(part, list):
            part = next((row for row in part if name in (row.get('images'), row.get('photos'))),
                        {})
        else:
            part = part.get(name, {})
    return float(part) if isinstance(part, (int, float)) else math.nan


def collect(study: Study, runs: Sequence[Run]) -> dict[str, dict[str, list[float]]]:
    """Return arm -> column -> the values of all seeds; the teacher is the first arm."""
    found: dict[str, dict[str, list[float]]] = {TEACHER: {}}
    columns = {run.without: ['table', 'unseen domains', 'X_id'] for run in runs if run.without}
    for run in runs:
        result = json.loads((run.folder / RESULT).read_text())
        if study.photos:
            result['photos'] = json.loads((run.folder / PHOTOS).read_text())['table']
        chosen = {run.without: columns[run.without]} if run.without else study.columns
        for title, where in chosen.items():
            found.setdefault(run.arm, {}).setdefault(title, []).append(value_of(result, where))
            if where[0] == 'table':  # the same for all runs
                found[TEACHER][title] = [value_of(result, ['teacher', *where[1:]])]
    for row in found.values() if columns else ():
        row['mean'] = [statistics.mean(values) for values in zip(*row.values(), strict=True)]
    return found


def mean_and_deviation(values: Sequence[float], scale: int, digits: int) -> str:
    """Return mean and sample standard deviation as text; '' where there is no value."""
    if any(map(math.isnan, values)):
        return ''
    mean = f'{scale * statistics.mean(values):.{digits}f}'
    return mean if len(values) < 2 else f'{mean} ± {scale * statistics.stdev(values):.{digits}f}'


def rows_of(study: Study, found: Mapping[str, Mapping[str, Sequence[float]]],
            columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the rows of the table of some columns, by default of all; accuracies in percent."""
    formats = {title: FORMATS[where[0]] for title, where in study.columns.items()}
    return [{study.name: arm, **{
        title: mean_and_deviation(values, *formats.get(title, FORMATS['table']))
        for title, values in row.items() if not columns or title in columns}}
            for arm, row in found.items() if row]


def draw(name: str, arms: Mapping[str, float],
         found: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw each column over the numbers of some arms."""
    curves: dict[str, list[tuple[float, Sequence[float]]]] = {}
    for arm, number in arms.items():
        for title, values in found[arm].items():
            curves.setdefault(title, []).append((number, values))
    with charts.drawing(), replacing(path) as temporary:
        charts.draw_sweep(curves, name).savefig(
            temporary, format='png', dpi=120, facecolor='white')


def write(study: Study, options: StudyOptions, runs: Sequence[Run]) -> str:
    """Write table, plot and JSON of a study whose runs are done; return the table."""
    page, found = options.results, collect(study, runs)
    parts = [f'{title}:\n\n{markdown_table(rows_of(study, found, columns))}'
             for title, columns in study.tables.items()]
    table = '\n\n'.join(parts) or markdown_table(rows_of(study, found))
    results = [json.loads((run.folder / RESULT).read_text()) for run in runs]
    seconds = statistics.mean(result['training_seconds'] for result in results)
    block = (f'```\npython training/study.py {options.study}\n```\n\n{table}\n\n'
             f'{len(runs)} runs, {seconds:.0f} s of training each.\n')
    for name, arms in study.plot.items():
        picture = page.parent / 'images' / f'{study.name}_{name}.png'
        draw(name, arms, found, picture)
        block += f'\n![{name}](images/{picture.name})\n'
    write_json(page.parent / 'results' / f'{study.name}.json',
               {'seeds': study.seeds, 'values': found})
    insert(page, study.name, block)
    return table


def main() -> None:
    """Do the missing runs of a study, and write its table."""
    options = tyro.cli(StudyOptions, description=__doc__)
    try:
        study = read_study(options.study)
        around(options.results, study.name)  # before the work
        runs = write_recipes(study, options)
        missing = [run for run in runs if not done(study, run)]
        os.environ['OMP_NUM_THREADS'] = str(max(1, (os.cpu_count() or 1) // options.jobs))
        with ThreadPoolExecutor(options.jobs) as pool, tqdm(
                total=len(runs), initial=len(runs) - len(missing), unit='run') as bar:
            try:
                for finished in as_completed([
                        pool.submit(execute, study, options, run) for run in missing]):
                    finished.result()
                    bar.update()
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)  # after the runs that were begun
                raise
        print(write(study, options, runs))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f'study: {error}; the same command resumes the study')
    except KeyboardInterrupt:
        sys.exit('study: interrupted; the same command resumes the study')


if __name__ == '__main__':
    main()
