"""
Run the commands of the pages, in the order of each page: make docs-check.

Each page has a shell and a copy of the checkout of its own. tools/docs_check.yaml says which
commands cannot run here, and why; of these, programs, options, parameters and files are checked,
as of the commands in sentences. It also says how the files are made that a page only names. A line
per command; exit with 1 if one fails.
"""
import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
import os
from pathlib import Path
import re
import select
import shutil
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory
import time

from docs_commands.checking import check, replaced
from docs_commands.pages import Command, PAGES, read_page, ROOT
import yaml

DATA = Path(__file__).with_suffix('.yaml')
LIMIT = 600.0  # of a command [s]
LAST = 6  # lines that are shown of a command that fails
# .venv is as it is: no target may set it up again for the copy. What is downloaded would not be
# said to be needed.
PRELUDE = r"""
. "$VENV/local_setup.bash"
export PATH="$VENV/bin:$PATH" PYTHONPATH="$PWD:$PYTHONPATH" HF_HUB_OFFLINE=1
make() { command make -o setup "$@"; }
"""


@dataclass(frozen=True)
class Data:
    """What docs_check.yaml says."""

    left_out: Mapping[str, str]
    """Pattern of `PAGE: COMMAND` -> why it cannot run; the first one counts."""
    stand_ins: Mapping[str, str]
    """Name that stands for a file of the user -> the file that is taken."""
    files: Mapping[str, str]
    """File that pages only name -> shell command that makes it, where it is not there."""


@dataclass(frozen=True)
class Row:
    """What became of a command."""

    command: Command
    state: str
    why: str = ''
    seconds: float = 0.0

    def __str__(self) -> str:
        first, *more = self.command.text.splitlines()
        text = first + ' ...' * bool(more)
        took = f' ({self.seconds:.0f} s)' if self.seconds >= 1 else ''
        return (f'{f"{self.command.page}:{self.command.line}":<32} {self.state:<8} '
                f'{text[:100]}{took}' + f'\n{"":<41} {self.why}' * bool(self.why))


def read_data() -> Data:
    """Return what docs_check.yaml says."""
    return Data(**yaml.safe_load(DATA.read_text('utf-8')))


def reason(command: Command, left_out: Mapping[str, str]) -> str:
    """Return why a command of a block is not run, '' if it is."""
    return next((why for pattern, why in left_out.items()
                 if re.search(pattern, f'{command.page}: {command.text}')), '')


class Shell:
    """A shell that keeps its state from one command to the next; one that ends is replaced."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder, self._variables = folder, variables
        self._start()

    def _start(self) -> None:
        self._states, states = os.pipe()
        self._bash = subprocess.Popen(
            ['bash', '--noprofile', '--norc'], stdin=subprocess.PIPE, cwd=self._folder, text=True,
            pass_fds=[states], start_new_session=True,
            env={**os.environ, **self._variables, 'STATES': str(states)})
        os.close(states)
        self.run(PRELUDE)

    def run(self, text: str, limit: float = LIMIT) -> tuple[bool, str]:
        """Return whether a command succeeds within a time [s], and what it says."""
        script, log = (self._folder.with_suffix(ending) for ending in ('.sh', '.log'))
        script.write_text(text + '\n', 'utf-8')
        log.unlink(missing_ok=True)
        assert self._bash.stdin
        self._bash.stdin.write(f'. {script} >{log} 2>&1 </dev/null; echo $? >&$STATES\n')
        self._bash.stdin.flush()
        came = select.select([self._states], [], [], limit)[0]
        state = os.read(self._states, 100).decode().strip() if came else f'not within {limit:g} s'
        said = log.read_text('utf-8', 'replace') if log.is_file() else ''
        if not state.isdecimal():
            self.close()
            self._start()
        return state == '0', f'{said}\nended with {state or "its shell"}'

    def close(self) -> None:
        """End the shell, and what it started."""
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
        os.close(self._states)


def copy(folder: Path) -> None:
    """Copy the checkout without what git ignores; .venv is the one that runs this."""
    names = subprocess.run(['git', 'ls-files', '-z', '-co', '--exclude-standard'], cwd=ROOT,
                           check=True, capture_output=True, text=True).stdout.split('\0')
    for name in names:
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / '.venv').symlink_to(sys.prefix)


def run_page(path: Path, data: Data, place: Path) -> Iterator[Row]:
    """Run or check the commands of a page."""
    commands, made = read_page(path), set[str]()
    running = [one for one in commands if not one.inline and not reason(one, data.left_out)]
    folder = place / path.stem
    folder.mkdir()
    if running:
        copy(folder)
    cache = str(folder.with_suffix('.cache'))  # what a page encodes helps no other
    with closing(Shell(folder, {'VENV': sys.prefix, 'XDG_CACHE_HOME': cache})) as shell:
        for command in commands:
            problems = check(command, data.stand_ins, made)
            why = '' if command in running or command.inline else reason(command, data.left_out)
            if problems:
                yield Row(command, 'failed', '; '.join(problems))
            elif command in running:
                yield run(command, data, shell, folder)
            elif problems is not None or why:
                yield Row(command, 'left out' if problems is None else 'checked', why)
    if running:
        shutil.rmtree(folder)


def run(command: Command, data: Data, shell: Shell, folder: Path) -> Row:
    """Run a command, after what makes the files that it names and that are not there."""
    start, text = time.monotonic(), replaced(command.text, data.stand_ins)
    for name in needed(text, data.files):
        if not (folder / name).exists():
            done, said = shell.run(f'( cd {folder}\n{data.files[name]}\n)')
            if not done or not (folder / name).exists():
                return Row(command, 'failed', f'{name} cannot be made: {last(said)}')
    done, said = shell.run(text)
    return Row(command, 'ran' if done else 'failed', '' if done else last(said),
               time.monotonic() - start)


def needed(text: str, files: Mapping[str, str]) -> list[str]:
    """Return the files that a command names."""
    return [name for name in files
            if re.search(rf'(?<![\w./-]){re.escape(name)}(?![\w.-])', text)]


def last(said: str) -> str:
    """Return the last lines of what a command said, under each other."""
    lines = [line[-200:] for line in said.splitlines() if line.strip()]
    return f'\n{"":<41} '.join(lines[-LAST:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the commands, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pages', nargs='*', type=Path, default=PAGES,
                        help='pages to check; by default all')
    pages = [path.resolve() for path in parser.parse_args(arguments).pages]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what runs, and tidies up
    data, counts = read_data(), Counter[str]()
    with TemporaryDirectory() as place:
        for path in pages:
            for row in run_page(path, data, Path(place)):
                counts[row.state] += 1
                print(row, flush=True)
    print(f'\n{counts.total()} commands: ' + ', '.join(
        f'{counts[state]} {state}' for state in ('ran', 'checked', 'left out', 'failed')))
    sys.exit(int(counts['failed'] > 0))


if __name__ == '__main__':
    main()
