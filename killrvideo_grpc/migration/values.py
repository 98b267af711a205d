"""Values of an existing KillrVideo database, read as the contract has them."""

import re
import unicodedata
from datetime import UTC, datetime
from uuid import UUID

from killrvideo_grpc.domain.account import AccountStatus, Role, truncate_to_millisecond
from killrvideo_grpc.security.hashing_process import HASH

MAX_NAME = 50
MAX_COST = 14  # two logins at a higher one would hold all hashing for minutes
SECONDS_DIGITS = 10  # of the seconds since 1970, from 2001 to 2286
MAX_STATUS = 40  # characters of a status that are kept in the event
EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
LATEST = datetime(2242, 1, 1, tzinfo=UTC)  # until then, a float of seconds distinguishes microseconds

_MASKED = re.compile(r"\*\*")
# Line separators and changes of text direction.
_UNWANTED = re.compile("[\u202a-\u202e\u2066-\u2069\u2028\u2029]")
_FRACTION = re.compile(r"(\.\d{6})\d+")
_NUMBER = re.compile(r"[0-9]{10,13}")
_ACTIVE = ("", "active", *Role)
_OTHER_HASHES = {
    "MD5": re.compile(r"[0-9a-fA-F]{32}"),
    "64 hexadecimal digits": re.compile(r"[0-9a-fA-F]{64}"),
    "PBKDF2": re.compile(r"sha1:\d+:.*"),
    "SHA-512": re.compile(r"[0-9a-fA-F]{128}|[A-Za-z0-9+/]{86}=="),
}


def read_text(value: object) -> str:
    """Return a text, trimmed; empty for anything else."""
    return value.strip() if isinstance(value, str) else ""


def read_id(value: object) -> UUID | None:
    """Return a UUID; None for anything else."""
    if isinstance(value, UUID):
        return value
    text = read_text(value)
    try:
        user_id = UUID(text)
    except ValueError:
        return None
    return user_id if str(user_id) == text.lower() else None


def read_date(value: object) -> datetime | None:
    """Return a date, cut to the millisecond; None for a missing, zero or impossible one.

    Takes dates, milliseconds since 1970, texts of 10 digits (seconds since 1970) or 11 to 13 (milliseconds), and ISO
    texts with up to nine decimals, in UTC unless they name a zone.
    """
    date = _to_date(value)
    if date is None or not EARLIEST.timestamp() <= date.timestamp() < LATEST.timestamp():
        return None
    date = date.astimezone(UTC)
    return truncate_to_millisecond(date)


def is_no_date(value: object) -> bool:
    """Return whether a date is missing or zero."""
    date = _to_date(value)
    return value in (None, "") or (date is not None and date.timestamp() == 0)


def read_name(value: object, default: str) -> str:
    """Return a name without the characters that the contract refuses, cut; `default` if none is visible."""
    name = "".join(
        character
        for character in _UNWANTED.sub("", value if isinstance(value, str) else "")
        if unicodedata.category(character) not in ("Cc", "Cs")
    )
    name = name.strip()[:MAX_NAME].strip()
    return name if any(unicodedata.category(character)[0] not in "CZM" for character in name) else default


def read_flag(value: object) -> bool:
    """Return whether a boolean, or the text of one, is true."""
    return value is True or read_text(value).lower() in ("true", "t", "yes", "1")


def read_status(value: object) -> AccountStatus:
    """Return the status. KillrVideo writes roles there too."""
    return AccountStatus.ACTIVE if read_text(value).lower() in _ACTIVE else AccountStatus.SUSPENDED


def read_roles(value: object) -> frozenset[Role]:
    """Return the role in a text, with viewer; only viewer for anything else."""
    name = read_text(value).lower().removeprefix("role_")
    return frozenset({Role.VIEWER, *(role for role in Role if role == name)})


def shortened(value: object) -> str:
    """Return a status or role as the source has it, shortened."""
    return "".join(character for character in read_text(value) if character.isprintable())[:MAX_STATUS]


def is_masked(value: object) -> bool:
    """Return whether an address looks as if the database had masked it. Real ones can, too."""
    return bool(_MASKED.search(read_text(value)))


def read_hash(value: object) -> tuple[str, str]:
    """Return a bcrypt hash and an empty kind, or an empty hash and what kind of password it is."""
    text = read_text(value)
    if match := HASH.fullmatch(text):
        cost = int(match[1])
        return (text, "") if cost <= MAX_COST else ("", f"bcrypt with a cost above {MAX_COST}")
    if not text:
        return "", "missing"
    return "", next((kind for kind, form in _OTHER_HASHES.items() if form.fullmatch(text)), "unknown")


def _to_date(value: object) -> datetime | None:
    date = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        date = _from_millis(value)
    elif isinstance(value, str):
        date = _from_text(value.strip())
    if not isinstance(date, datetime):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _from_millis(value: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _from_text(text: str) -> datetime | None:
    if _NUMBER.fullmatch(text):
        return _from_millis(int(text) * (1000 if len(text) == SECONDS_DIGITS else 1))
    try:
        return datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    except ValueError:
        return None
