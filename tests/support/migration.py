"""Accounts and KillrVideo databases to move from."""

import csv
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from hypothesis import strategies as st

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role
from tests.support.accounts import HASH, OTHER_HASH

Row = dict[str, str]

_NAMES = st.text(st.characters(exclude_categories=["C", "M", "Z"]), min_size=1, max_size=50)
# 2005 to 2034: astrapy sends some dates of other years a millisecond too early.
_MILLIS = st.integers(1_104_537_600_000, 2_051_222_400_000)
_DATES = _MILLIS.map(lambda millis: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis))
_IDS = st.uuids(version=4)
_EMAILS = st.from_regex(r"[A-Za-z0-9ößé]{1,20}@[a-z]{1,10}\.org", fullmatch=True)


def stored_credentials(
    user_ids: st.SearchStrategy[UUID] = _IDS, emails: st.SearchStrategy[str] = _EMAILS
) -> st.SearchStrategy[Credentials]:
    """Return accounts without sessions, as a store can have them. Some have no address."""
    accounts = st.builds(
        Account,
        user_id=user_ids,
        email=st.one_of(emails, emails, st.just("")),
        first_name=_NAMES.map(str.strip),
        last_name=_NAMES.map(str.strip),
        roles=st.frozensets(st.sampled_from(list(Role))),
        status=st.sampled_from(list(AccountStatus)),
        created_date=_DATES,
        credential_id=st.uuids().map(lambda made: made.hex),
        last_login_date=st.one_of(st.none(), _DATES),
    )
    return st.builds(Credentials, accounts, st.sampled_from([HASH, OTHER_HASH, ""])).map(_without_login)


def _without_login(credentials: Credentials) -> Credentials:
    """Take the roles and the hash from an account that has no address."""
    if credentials.account.email:
        return credentials
    return Credentials(replace(credentials.account, roles=frozenset({Role.VIEWER})), "")


def killrvideo_rows(seed: int = 7) -> tuple[list[Row], list[Row]]:
    """Return 150 users and credentials as KillrVideo's sample has them: 130 active, 20 suspended, inactive or locked.

    Nobody knows their passwords.
    """
    dice = random.Random(seed)
    users, credentials = list[Row](), list[Row]()
    for number in range(150):
        user_id = str(UUID(int=dice.getrandbits(128), version=4))
        email = f"person{number}.{user_id[:8]}@example.org"
        created = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=dice.randrange(700_000))
        login = created + timedelta(milliseconds=dice.randrange(1, 10**10))
        status = {0: "suspended", 1: "inactive"}.get(number // 7, "active")
        users.append(
            {
                "userid": user_id,
                "created_date": iso(created),
                "email": email,
                "firstname": dice.choice(["Ann", "Bea", "Zoë"]),
                "lastname": f"Lee{number}",
                "account_status": status,
                "last_login_date": iso(login),
            }
        )
        credentials.append(
            {
                "email": email,
                "password": f"{dice.getrandbits(256):064x}",
                "userid": user_id,
                "account_locked": "true" if number in range(12, 20) else "false",
            }
        )
    return users, credentials


def iso(date: datetime) -> str:
    return date.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_csv(folder: Path, users: Sequence[Row], credentials: Sequence[Row]) -> Path:
    """Write both files, and return their folder."""
    folder.mkdir(exist_ok=True)
    for name, rows in (("users", users), ("user_credentials", credentials)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder
