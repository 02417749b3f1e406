"""Read the commands of a page, and their words."""
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
import re
import shlex

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').rglob('*.md')])
SHELL = {'', 'bash', 'console', 'sh'}  # languages of blocks with commands
# A command in a sentence, in backticks: a name of ours and something behind it.
INLINE = re.compile(r'(python3?|make|ros2|\S*?(vl2v|classifier|camera|memory)_[a-z]+|'
                    r'[\w./]+\.(py|sh)|reliability\.\w+)\s+\S')
CODE = re.compile(r'`((?:[^`\n]|\n(?!\s*\n))+)`')


@dataclass(frozen=True)
class Command:
    """A command of a page, and where it stands; `inline`: in a sentence, maybe a part of one."""

    page: str
    line: int
    text: str
    inline: bool = False


def read_page(path: Path) -> list[Command]:
    """Return the commands of a page in its order; a block of Python is one."""
    found, prose = list[Command](), list[str]()
    page = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    language: str | None = None
    for number, line in enumerate(path.read_text('utf-8').splitlines(), 1):
        is_mark = line.lstrip().startswith('```')
        prose.append(line if language is None and not is_mark else '')
        if is_mark:
            language = line.strip().strip('`') if language is None else None
            if language == 'python':
                found.append(Command(page, number, "python - <<'END'\nEND"))
        elif language == 'python':
            text = found[-1].text.removesuffix('END')
            found[-1] = replace(found[-1], text=f'{text}{line}\nEND')
        elif language in SHELL:
            add(found, Command(page, number, line), language == 'console')
    text = '\n'.join(prose)
    found += [Command(page, 1 + text.count('\n', 0, code.start()), ' '.join(code[1].split()), True)
              for code in CODE.finditer(text)
              if INLINE.match(code[1]) or re.match(r'\w+\.launch\.py ', code[1])]
    return sorted(found, key=lambda command: command.line)


def add(found: list[Command], command: Command, prompted: bool) -> None:
    """Add a line of a block; one that is indented continues the one before."""
    line = command.text
    if not line.strip() or line.startswith('#'):
        return
    if line[0].isspace() and found:
        found[-1] = replace(found[-1], text=f'{found[-1].text}\n{line}')
    elif not prompted:
        found.append(command)
    elif line.startswith('$ '):  # else it is what a command prints
        found.append(replace(command, text=line[2:]))


def split(text: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a shell text; raises ValueError for bad quotes."""
    for line in text.replace('\\\n', ' ').splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars='();|&')
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ';']:
            if set(word) <= set('();|&') and word:
                yield words
                words = []
            else:
                words.append(word)


def expand(word: str) -> list[str]:
    """Return what a shell makes of {a,b}."""
    found = re.search(r'\{([^{}]*,[^{}]*)\}', word)
    return [each for part in found[1].split(',') for each in expand(
        word[:found.start()] + part + word[found.end():])] if found else [word]
