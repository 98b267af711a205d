"""The file of `accounts export`: JSON lines, first the format and its version, then one account a line."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import (
    Account,
    AccountStatus,
    Credentials,
    Role,
    normal_email,
    role_names,
    truncate_to_millisecond,
)
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.migration.killrvideo import profile_only
from killrvideo_grpc.migration.rows import Candidate, RefusedRow
from killrvideo_grpc.migration.rules import text_violations
from killrvideo_grpc.migration.values import LATEST, read_hash
from killrvideo_grpc.security.hashing_process import HASH

FORMAT = "killrvideo-accounts"
VERSION = 1
MAX_LINE = 65_536  # bytes: no account takes as many
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


class _BadLine(Exception):
    """A line is no account. The message says why, without its values."""


def header() -> bytes:
    """Return the first line."""
    return _line({"format": FORMAT, "version": VERSION})


def account_line(credentials: Credentials) -> bytes:
    """Return the line of an account, in ASCII."""
    account = credentials.account
    return _line(
        {
            "user_id": str(account.user_id),
            "email": account.email,
            "first_name": account.first_name,
            "last_name": account.last_name,
            "roles": list(role_names(account.roles)),
            "account_status": account.status.value,
            "created_date": _date_text(account.created_date),
            "last_login_date": account.last_login_date and _date_text(account.last_login_date),
            "password_hash": credentials.password_hash,
        }
    )


def read_accounts(file: BinaryIO) -> Iterator[Candidate | RefusedRow]:
    """Yield the accounts of a file, and the lines that are none. Raise SetupError if it has another format."""
    _check_header(file.readline(MAX_LINE))
    ids, addresses = dict[UUID, int](), dict[str, int]()
    number = 1
    while line := file.readline(MAX_LINE):
        number += 1
        try:
            _skip_rest(file, line)
            candidate = _read_candidate(f"line {number}", line)
            _check_unique(candidate.credentials.account, number, ids, addresses)
        except _BadLine as error:
            yield RefusedRow(f"line {number}", str(error))
        else:
            yield candidate


def _skip_rest(file: BinaryIO, line: bytes) -> None:
    """Read to the end of a line that is too long."""
    if len(line) < MAX_LINE or line.endswith(b"\n"):
        return
    while line and not line.endswith(b"\n"):
        line = file.readline(MAX_LINE)
    raise _BadLine("it is too long")


def _check_header(line: bytes) -> None:
    try:
        found = json.loads(line)
        form, version = found["format"], found["version"]
    except (ValueError, LookupError, TypeError, RecursionError):
        form, version = None, None
    if form != FORMAT:
        raise SetupError("This is no file of accounts: `killrvideo-grpc accounts export` writes them.")
    if version != VERSION or isinstance(version, bool):
        raise SetupError(f"The file has another version than {VERSION}, the only one that this program reads.")


def _read_candidate(where: str, line: bytes) -> Candidate:
    fields = _object(line)
    account = _account(fields)
    password_hash, unusable = _hash(fields)
    candidate = Candidate(where, Credentials(account, password_hash), unusable_password=unusable)
    if account.email or (account.roles == {Role.VIEWER} and not fields["password_hash"]):
        return candidate
    return profile_only(candidate, "it has no address, so its roles and password are left out")


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line.decode())
    except UnicodeDecodeError:
        raise _BadLine("it is not UTF-8") from None
    except (ValueError, RecursionError):
        raise _BadLine("it is not JSON") from None
    if not isinstance(fields, dict):
        raise _BadLine("it is no JSON object")
    return fields


def _account(fields: dict[str, Any]) -> Account:
    email, first_name, last_name = (_text(fields, name).strip() for name in ("email", "first_name", "last_name"))
    violations = text_violations(email, first_name, last_name)
    if not email:  # profile only
        violations.pop("email", None)
    for field, description in violations.items():
        raise _BadLine(f"the {field.replace('_', ' ')} {description}")
    return Account(
        user_id=_user_id(fields),
        email=email,
        first_name=first_name,
        last_name=last_name,
        roles=_roles(fields),
        status=_status(fields),
        created_date=_date(fields, "created_date"),
        last_login_date=None if fields.get("last_login_date") is None else _date(fields, "last_login_date"),
        credential_id=uuid4().hex,
    )


def _check_unique(account: Account, number: int, ids: dict[UUID, int], addresses: dict[str, int]) -> None:
    address = normal_email(account.email)
    if line := ids.get(account.user_id):
        raise _BadLine(f"line {line} has the same user_id")
    if address and (line := addresses.get(address)):
        raise _BadLine(f"line {line} has the same email")
    ids[account.user_id] = addresses[address] = number


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _BadLine(f"{name} is missing or no text")
    return value


def _user_id(fields: dict[str, Any]) -> UUID:
    text = _text(fields, "user_id")
    try:
        user_id = UUID(text)
    except ValueError:
        user_id = None
    if user_id is None or str(user_id) != text.lower():
        raise _BadLine("user_id is no UUID")
    return user_id


def _roles(fields: dict[str, Any]) -> frozenset[Role]:
    names = fields.get("roles")
    try:
        return frozenset(map(Role, names if isinstance(names, list) else [None]))
    except ValueError:
        raise _BadLine(f"roles must be a list of {', '.join(Role)}") from None


def _status(fields: dict[str, Any]) -> AccountStatus:
    try:
        return AccountStatus(_text(fields, "account_status"))
    except ValueError:
        raise _BadLine(f"account_status must be one of {', '.join(AccountStatus)}") from None


def _date(fields: dict[str, Any], name: str) -> datetime:
    date: datetime | None = None
    with suppress(ValueError):
        date = datetime.fromisoformat(_text(fields, name))
    if date is None or date.tzinfo is None or not EARLIEST <= date < LATEST:
        raise _BadLine(f"{name} must be a date with a time zone, like 2026-11-29T13:15:00.000Z, from 1970 to 2241")
    return truncate_to_millisecond(date.astimezone(UTC))


def _hash(fields: dict[str, Any]) -> tuple[str, str]:
    """Return the hash, and of what kind it is if it can't be used."""
    text = _text(fields, "password_hash")
    if text and not HASH.fullmatch(text):
        raise _BadLine("password_hash must be a bcrypt hash, or empty")
    return read_hash(text) if text else ("", "")


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _date_text(date: datetime) -> str:
    return date.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
