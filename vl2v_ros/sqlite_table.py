"""A table in a file that all processes share; without the file the program still works."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import logging
from pathlib import Path
import sqlite3
from typing import Any

logger = logging.getLogger(__name__)
Row = tuple[Any, ...]
# A text in a damaged file may be no UTF-8, also one in SQLite's own tables.
DAMAGED = OSError, sqlite3.Error, UnicodeDecodeError
PATIENCE = 10.0  # longest wait for another process that holds the file [s]


class SqliteTable:
    """
    Rows in an SQLite file, found by their key; a process that is killed leaves no partial rows.

    If the file cannot be used, a warning says so, and nothing is found or stored.
    """

    def __init__(self, path: Path, what: str, name: str, key: Sequence[str],
                 values: Sequence[str]) -> None:
        """
        Store the description of the table; nothing is read or written yet.

        :param what: name of the file in warnings, such as 'prompt cache'.
        :param name: name of the table.
        :param key: key columns with their SQLite types, such as 'label TEXT'.
        :param values: the other columns, in the same form.
        """
        self._path, self._what = path, what
        columns, keys = [*key, *values], [column.split()[0] for column in key]
        self._create = (f'CREATE TABLE IF NOT EXISTS {name} ({", ".join(columns)}, '
                        f'PRIMARY KEY ({", ".join(keys)}))')
        self._select = (f'SELECT {", ".join(column.split()[0] for column in values)} FROM {name} '
                        f'WHERE {" AND ".join(f"{column} = ?" for column in keys)}')
        self._insert = f'INSERT OR REPLACE INTO {name} VALUES ({", ".join("?" for _ in columns)})'

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=PATIENCE)
        try:
            connection.execute(self._create)
            yield connection
        finally:
            connection.close()

    def read(self, keys: Sequence[Row]) -> dict[Row, Row]:
        """Return key -> values for the keys that have a row, in their order."""
        found: dict[Row, Row] = {}
        try:
            with self._open() as connection:
                for key in keys:
                    row = connection.execute(self._select, key).fetchone()
                    if row is not None:
                        found[key] = row
        except DAMAGED as error:
            logger.warning('%s %s cannot be read: %s', self._what, self._path,
                           _held(error) or f'{error}; delete it if it is damaged')
        return found

    def write(self, rows: Sequence[Row]) -> None:
        """Store rows (key columns first) in place of those with the same key; all or none."""
        try:
            with self._open() as connection, connection:
                connection.executemany(self._insert, rows)
        except DAMAGED as error:
            logger.warning('%s %s cannot be written: %s', self._what, self._path,
                           _held(error) or error)


def _held(error: Exception) -> str:
    """Return what to do about a file that another process holds, '' for any other error."""
    # Python 3.10 does not tell SQLite's number of the error.
    if not isinstance(error, sqlite3.OperationalError) or 'locked' not in str(error):
        return ''
    return (f'another process has held it for {PATIENCE:g} s ({error}); it is done without for '
            'now, end that process if it hangs')
