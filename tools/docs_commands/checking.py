"""Check a command of a page: its programs, options, parameters, targets and files."""
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
import os
from pathlib import Path
import re
import subprocess

from docs_commands.interfaces import check_launch, check_parameters, check_request, check_topic
from docs_commands.pages import Command, expand, ROOT, split
from docs_commands.programs import brief, check_options, find_program

REPOSITORY = re.compile(r'/?(?:src/vl2v_ros/)?'
                        r'((?:config|data|docs|examples|launch|models|test|tools)/[^\s$<]+)')
WRITTEN = {'--draw', '--html', '--int8', '--out', '--plot', '--report'}
Check = Callable[[], list[str]]


def check(command: Command, stand_ins: Mapping[str, str] = {},
          made: set[str] | None = None) -> list[str] | None:
    """
    Return what is wrong with a command, None if nothing in it is of this repository.

    :param stand_ins: what is taken for a name that stands for a file of the user.
    :param made: files that the commands before make; those that this one makes are added.
    """
    text, made = replaced(command.text, stand_ins), set() if made is None else made
    if text.startswith('python - <<'):
        return None  # what it imports, test/house/test_docs.py checks
    if text.startswith('$ '):
        return ['a block with prompts and what commands print has the language console or text']
    try:
        simple = list(split(text))
    except ValueError as error:
        return [f'the shell cannot read it: {error}']
    missing = [problem for words in simple for problem in missing_files(words, made)]
    checks = [found for words in simple if (found := find_check(words, not command.inline))]
    if not checks and not any(file_in(word) for words in simple for word in words):
        return None
    return missing + [problem for one in checks for problem in one()]


def replaced(text: str, stand_ins: Mapping[str, str]) -> str:
    """Return a command with files of this repository in place of names that stand for others."""
    for name, file in stand_ins.items():
        text = re.sub(rf'(?<![\w./-]){re.escape(name)}(?![\w/])', file, text)
    return text


def file_in(word: str) -> str:
    """Return the file of the repository that a word names, '' if it names none."""
    found = REPOSITORY.fullmatch(word.rpartition('=')[2])
    return found[1] if found else ''


def missing_files(words: Sequence[str], made: set[str]) -> Iterator[str]:
    """Yield a line for each file of the repository that is named and not there."""
    for before, word in zip(['', *words[:-1]], words, strict=False):
        for file in expand(file_in(word)):
            if before in WRITTEN:
                made.add(file)
            elif file and file not in made and not any(ROOT.glob(file.rstrip('/'))):
                yield f'there is no {file}'


def find_check(words: list[str], whole: bool) -> Check | None:
    """Return how the words of a simple command are checked; None if it is none of ours."""
    while words and (re.match(r'\w+=', words[0]) or words[0] in ('do', 'export', 'then')):
        words = words[1:]
    if words and words[0] in ('taskset', 'torchrun'):  # a program that starts another one
        while words and words[0] != 'python' and not words[0].endswith('.py'):
            words = words[1:]
    match [Path(word).name if not at else word for at, word in enumerate(words)]:
        case ['make', *given]:
            return partial(check_make, given)
        case ['ros2', 'launch', 'vl2v_ros', file, *given]:
            return partial(check_launch, file, given)
        case [file, *given] if file.endswith('.launch.py'):
            return partial(check_launch, file, given)
        case ['ros2', 'run', 'vl2v_ros', name, *given]:
            return find_check([name, *given], whole) or partial(list, [f'there is no {name}'])
        case ['ros2', 'service' | 'action', 'call' | 'send_goal', *given]:
            return partial(check_request,
                           *[word for word in given if not word.startswith('--')][:3])
        case ['ros2', 'topic', 'echo' | 'hz', topic, *_]:
            return partial(check_topic, topic)
        case ['ros2', 'param', 'set', node, parameter, *_]:
            return partial(check_parameters, f'{node[1:]}_node', [parameter], True)
    try:
        found = find_program(words) if words else None
    except ValueError as error:
        return partial(list, [str(error)])
    return partial(check_options, *found, whole) if found else None


def check_make(given: Sequence[str]) -> list[str]:
    """Check a target and its variables, and what it would start."""
    given = [word for before, word in zip(['', *given], given, strict=False)
             if '-C' not in (before, word)]
    makefile = (ROOT / 'Makefile').read_text('utf-8')
    problems = [f'the Makefile has no variable {name}' for word in given
                for name in re.findall(r'^(\w+)=', word) if f'$({name})' not in makefile]
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(('MAKE', 'MFLAGS'))}
    done = subprocess.run(['make', '-n', '-o', 'setup', *given], cwd=ROOT, env=clean,
                          capture_output=True, text=True)
    if done.returncode:
        return [*problems, brief(done.stderr)]
    checks = [found for words in split(done.stdout) if (found := find_check(words, True))]
    return problems + [problem for one in checks for problem in one()]
