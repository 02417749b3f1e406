"""Processes whose output is watched, and waiting for what is to come."""
from collections.abc import Callable, Mapping
import os
from pathlib import Path
import signal
import subprocess
import time
from typing import TypeVar

from support import warm

T = TypeVar('T')
PATIENCE = 60.0  # for what takes a second or two on a quiet machine [s]


def wait_until(condition: Callable[[], T], what: str, patience: float = PATIENCE,
               step: float = 0.01) -> T:
    """Return the condition's value once it is true; fail with `what` was awaited."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f'{what}: not within {patience:g} s'
        time.sleep(step)
    return value


class Process:
    """
    A process whose output goes to a file; variables of `env` that are empty are not set.

    A command that is a script of ours, as support.warm takes it, starts with its libraries loaded.
    """

    def __init__(self, command: list[str], log: Path, env: Mapping[str, str]) -> None:
        self._log, self._command, self._shown = log, command, 0
        environment = {name: value for name, value in {**os.environ, **env}.items() if value}
        self._popen: warm.Program | subprocess.Popen[bytes]
        log.touch()
        if command[0].endswith('.py'):
            self._popen = warm.Program(command, log, environment=environment)
        else:
            with log.open('wb') as output:
                self._popen = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT,
                                               env=environment)
        self.pid = self._popen.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors='replace')

    def news(self) -> str:
        """Return what it said since the last call."""
        said = self.output
        new, self._shown = said[self._shown:], len(said)
        return f'--- {" ".join(self._command)}\n{new}' if new else ''

    @property
    def rss(self) -> int:
        """Memory of the process that is in RAM [KiB]."""
        lines = Path(f'/proc/{self.pid}/status').read_text().splitlines()
        return int(next(line for line in lines if line.startswith('VmRSS')).split()[1])

    def wait_for_output(self, text: str, patience: float = PATIENCE) -> 'Process':
        """Wait for a text; fail if the process ends before it comes."""
        def said() -> bool:
            ended = self._popen.poll()
            found = text in self.output
            assert found or ended is None, f'ended with {ended}:\n{self.output}'
            return found
        wait_until(said, repr(text), patience)
        return self

    def wait(self, patience: float = PATIENCE) -> int:
        """Return the exit code."""
        return self._popen.wait(patience)

    def stop(self, number: int = signal.SIGINT, patience: float = PATIENCE) -> int:
        """Send a signal and return the exit code."""
        self._popen.send_signal(number)
        return self.wait(patience)

    def __enter__(self) -> 'Process':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it takes."""
        self._popen.terminate()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
