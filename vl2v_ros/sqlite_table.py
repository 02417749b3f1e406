"""A table on disk that all processes share, and that is done without where it cannot be used."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import logging
from pathlib import Path
import sqlite3
from typing import Any

logger = logging.getLogger(__name__)
Row = tuple[Any, ...]


class SqliteTable:
    """
    Rows found by their key, in an SQLite file; whole ones only, whenever the process ends.

    When the file cannot be used, a warning says so; then nothing is found and nothing is kept.
    """

    def __init__(self, path: Path, what: str, name: str, key: Sequence[str],
                 values: Sequence[str]) -> None:
        """
        Remember where the table is; nothing is read or written yet.

        :param what: names the file in warnings, such as 'prompt cache'.
        :param name: of the table.
        :param key: columns with their SQLite types, such as 'label TEXT'; a row is found by them.
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
        connection = sqlite3.connect(self._path, timeout=10)
        try:
            connection.execute(self._create)
            yield connection
        finally:
            connection.close()

    def read(self, keys: Sequence[Row]) -> dict[Row, Row]:
        """Return key -> values, in the order of the keys, for those that have a row."""
        found: dict[Row, Row] = {}
        try:
            with self._open() as connection:
                for key in keys:
                    row = connection.execute(self._select, key).fetchone()
                    if row is not None:
                        found[key] = row
        except (OSError, sqlite3.Error) as error:
            logger.warning('%s %s cannot be read: %s; delete it if it is damaged', self._what,
                           self._path, error)
        return found

    def write(self, rows: Sequence[Row]) -> None:
        """Keep rows, key first; those with the same key are replaced. All of them, or none."""
        try:
            with self._open() as connection, connection:
                connection.executemany(self._insert, rows)
        except (OSError, sqlite3.Error) as error:
            logger.warning('%s %s cannot be written: %s', self._what, self._path, error)
