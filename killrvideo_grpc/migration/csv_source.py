"""The tables of an existing KillrVideo database as CSV files."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.migration.rows import RefusedRow
from killrvideo_grpc.migration.source import CREDENTIAL_COLUMNS, USER_COLUMNS, Source, SourceCredential, SourceUser

Row = dict[str, str | None]


def read_folder(folder: Path) -> tuple[Source, list[RefusedRow]]:
    """Read `users.csv` and `user_credentials.csv`. Return also the rows that are broken. Raise SetupError."""
    refused: list[RefusedRow] = []
    users = [_user(where, row) for where, row in _rows(folder / "users.csv", USER_COLUMNS, refused)]
    credentials = [
        _credential(where, row) for where, row in _rows(folder / "user_credentials.csv", CREDENTIAL_COLUMNS, refused)
    ]
    return Source(users, credentials), refused


def _rows(path: Path, columns: tuple[str, ...], refused: list[RefusedRow]) -> Iterator[tuple[str, Row]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        if missing := [column for column in columns if column not in names]:
            raise SetupError(f"{path} has no column {', '.join(missing)} in its first line.")
        for fields in reader:
            where = f"{path.name} line {reader.line_num}"
            if len(fields) == len(names):
                yield where, {name: field or None for name, field in zip(names, fields, strict=True)}
            elif fields:
                refused.append(RefusedRow(where, f"it has {len(fields)} fields instead of {len(names)}"))
    except csv.Error as error:
        raise SetupError(f"{path} is no CSV: line {reader.line_num}: {error}.") from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise SetupError(f"{path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SetupError(f"{path} is not UTF-8: line {line}. Convert it first, with iconv for example.") from None


def _user(where: str, row: Row) -> SourceUser:
    return SourceUser(
        where,
        row["userid"],
        row["email"],
        row["firstname"],
        row["lastname"],
        row["account_status"],
        row["created_date"],
        row["last_login_date"],
    )


def _credential(where: str, row: Row) -> SourceCredential:
    return SourceCredential(where, row["email"], row["password"], row["userid"], row["account_locked"])
