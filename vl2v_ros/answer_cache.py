"""Answers of language models, kept on disk; whole ones only, whenever the process ends."""
from collections.abc import Sequence
import logging
from pathlib import Path
import sqlite3

logger = logging.getLogger(__name__)


class AnswerCache:
    """
    The answers to one question by one model, in an SQLite file that all processes share.

    When the file cannot be used, a warning says so and everything is asked again.
    """

    def __init__(self, path: Path, model: str, question: str) -> None:
        """Do nothing yet but remember where things are."""
        self._path, self._model, self._question = path, model, question

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=10)
        connection.execute(
            'CREATE TABLE IF NOT EXISTS answers (label TEXT, model TEXT, question TEXT, '
            'answer TEXT, PRIMARY KEY (label, model, question))')
        return connection

    def read(self, labels: Sequence[str]) -> dict[str, str]:
        """Return label -> answer, in the order of the labels, for those that have one."""
        known = {}
        try:
            connection = self._connect()
            try:
                for label in labels:
                    found = connection.execute(
                        'SELECT answer FROM answers WHERE label = ? AND model = ? AND '
                        'question = ?', (label, self._model, self._question)).fetchone()
                    if found:
                        known[label] = found[0]
            finally:
                connection.close()
        except (OSError, sqlite3.Error) as error:
            logger.warning('cache of answers %s is not used: %s; delete it if it is damaged',
                           self._path, error)
        return known

    def write(self, label: str, answer: str) -> None:
        """Keep an answer."""
        try:
            connection = self._connect()
            try:
                with connection:
                    connection.execute('INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)',
                                       (label, self._model, self._question, answer))
            finally:
                connection.close()
        except (OSError, sqlite3.Error) as error:
            logger.warning('cache of answers %s is not written: %s', self._path, error)
