"""Programs of ours, and whether they can read a command line."""
import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import cache, wraps
import inspect
import io
import os
from pathlib import Path
import re
import runpy
import sys
from typing import Any
from unittest.mock import patch

from docs_commands.interfaces import check_parameters
from docs_commands.pages import ROOT
import tyro

PROGRAMS = dict(re.findall(r"f'(\w+) = \{NAME\}\.([\w.]+):main'",
                           (ROOT / 'setup.py').read_text('utf-8')))
FOLDERS = 'training', 'benchmarks', 'vl2v_ros', 'tools', 'examples', 'test'
PARSERS = 'ArgumentParser(', 'tyro.', 'profile_path('  # what a program with options has in it


def find_program(words: Sequence[str]) -> tuple[Path, list[str]] | None:
    """Return the file of a program of ours, and its arguments; raises ValueError if it is gone."""
    first, rest = words[0], list(words[1:])
    if Path(first).name in ('python', 'python3') and rest:
        if rest[0] == '-m':
            rest = rest[1:]
        elif not rest[0].endswith('.py'):
            return None
        first, rest = rest[0], rest[1:]
    name = Path(first).name
    module = f'vl2v_ros.{PROGRAMS[name]}' if name in PROGRAMS else first
    if re.match(rf'({"|".join(FOLDERS)}|reliability)\.[\w.]+$', module):
        file = module.replace('.', '/') + '.py'
        found = [path for path in (ROOT / file, ROOT / 'test' / file) if path.is_file()]
    elif name.endswith(('.py', '.sh')):
        found = [ROOT / first] if (ROOT / first).is_file() else [
            path for folder in FOLDERS if name == first for path in (ROOT / folder).rglob(name)]
    else:
        return None
    if len(found) != 1:
        raise ValueError(f'there is no {first}' if not found else f'there are several {first}')
    return found[0], rest


def check_options(path: Path, given: list[str], whole: bool) -> list[str]:
    """
    Check the options of a program, and the parameters of a node.

    :param whole: whether all arguments are there; else only the names of options are checked.
    """
    problems, source = [], path.read_text('utf-8')
    if '--ros-args' in given:
        at = given.index('--ros-args')
        given, ros = given[:at], given[at:]
        problems = check_parameters(path.stem, [
            word.partition(':=')[0] for before, word in zip(['', *ros[:-1]], ros, strict=True)
            if before == '-p'])
    flags = [word.partition('=')[0] for word in given if re.match(r'--[a-z]', word)]
    if path.suffix == '.sh':
        known = source + path.with_suffix('.py').read_text('utf-8')
    elif not any(parser in source for parser in PARSERS):
        known = ''
    elif whole:
        understood, said = parse(path, tuple(given))
        return problems + ([] if understood else [f'{path.name}: {said}'])
    else:
        ours = next((at for at, word in enumerate(given) if word.startswith('--')), len(given))
        known = parse(path, (*given[:ours], '--help'))[1] if flags else ''
    return problems + [f'{path.name} has no option {flag}' for flag in flags
                       if not re.search(rf'(?<![\w-]){flag}(?!-?[\w.])', known)]


class Parsed(BaseException):
    """A program has read its command line, and would begin its work."""


def stopping(function: Callable[..., Any], before: bool = False) -> Callable[..., Any]:
    """Return a function that raises Parsed after the given one, or in its place."""
    @wraps(function)
    def stop(*args: Any, **options: Any) -> None:
        if not before:
            function(*args, **options)
        raise Parsed
    return stop


def idle(kind: Any) -> Any:
    """Return a function that does nothing, for one that tyro would call; a type as it is."""
    return stopping(kind, before=True) if inspect.isfunction(kind) else kind


@cache
def parse(path: Path, given: tuple[str, ...]) -> tuple[bool, str]:
    """Return whether a program can read its command line, and what it says; it stops there."""
    cli, cli_of_many = tyro.cli, tyro.extras.subcommand_cli_from_dict
    output, folder = io.StringIO(), Path.cwd()
    with ExitStack() as stack:
        os.chdir(ROOT)
        stack.callback(os.chdir, folder)
        for target, name, value in [
                *((argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))
                  for name in ('parse_args', 'parse_intermixed_args')),
                (tyro, 'cli', stopping(lambda kind, **rest: cli(idle(kind), **rest))),
                (tyro.extras, 'subcommand_cli_from_dict', lambda kinds, **rest: cli_of_many(
                    {key: idle(kind) for key, kind in kinds.items()}, **rest)),
                (sys, 'argv', [str(path), *given]),
                (sys, 'path', [*sys.path, str(ROOT), str(ROOT / 'test')])]:
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(patch.dict(os.environ, COLUMNS='200'))
        stack.enter_context(redirect_stdout(output))
        stack.enter_context(redirect_stderr(output))
        try:
            runpy.run_path(str(path), run_name='__main__')
            return False, 'it ended without reading its options'
        except Parsed:
            return True, ''
        except SystemExit as end:
            said = output.getvalue() + (end.code if isinstance(end.code, str) else '')
            return (True, said) if end.code in (0, None) else (False, brief(said))


def brief(said: str) -> str:
    """Return what a parser says is wrong as one line, without its usage and frames."""
    return ' '.join(re.sub(r'-{3,}|[─│╭╮╰╯]+', ' ', said.rpartition('error: ')[2]).split())[:200]
