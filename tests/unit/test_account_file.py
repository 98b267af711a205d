"""The file of `accounts export`."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killrvideo_grpc.domain.account import Account, Credentials, Role, normal_email
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.migration.account_file import MAX_LINE, account_line, header, read_accounts
from killrvideo_grpc.migration.rows import Candidate, RefusedRow
from tests.support.accounts import HASH, an_account
from tests.support.migration import stored_credentials


def read(*lines: bytes, first: bytes | None = None) -> list[Candidate | RefusedRow]:
    return list(read_accounts(io.BytesIO((header() if first is None else first) + b"".join(lines))))


def identity(each: Credentials) -> UUID:
    return each.account.user_id


def address(each: Credentials) -> object:
    """Return what no two accounts may share."""
    return normal_email(each.account.email) or each.account.user_id


def bare(account: Account) -> Account:
    """Return what the file keeps of an account."""
    return replace(account, credential_id="", sessions={}, sources={})


@settings(max_examples=15)
@given(st.lists(stored_credentials(), max_size=5, unique_by=(identity, address)))
def test_reads_what_was_written(written: list[Credentials]) -> None:
    rows = read(*map(account_line, written))
    found = [
        (bare(row.credentials.account), row.credentials.password_hash) for row in rows if isinstance(row, Candidate)
    ]
    assert found == [(bare(each.account), each.password_hash) for each in written]


def test_lines_are_ascii_and_one_each() -> None:
    line = account_line(Credentials(an_account(first_name="Zoë\u2028\u0085李"), HASH))
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert list(json.loads(line)) == [
        *("user_id", "email", "first_name", "last_name", "roles", "account_status", "created_date"),
        *("last_login_date", "password_hash"),
    ]


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\x00\n",
        b'{"format":"other","version":1}\n',
        b'{"format":"killrvideo-accounts"}\n',
        b'{"format":"killrvideo-accounts","version":2}\n',
        b'{"format":"killrvideo-accounts","version":true}\n',
        b"[" * 60_000 + b"\n",
    ],
)
def test_another_format_is_refused_as_a_whole(first: bytes) -> None:
    with pytest.raises(SetupError, match=r"This is no file of accounts|another version than 1"):
        read(first=first)


def changed(**fields: Any) -> bytes:
    """Return the line of an account with other values; None leaves a field out."""
    line = json.loads(account_line(Credentials(an_account(), HASH))) | fields
    return json.dumps({name: value for name, value in line.items() if value is not ...}).encode() + b"\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{\n", "not JSON"),
        (b"\n", "not JSON"),
        (b"[1]\n", "no JSON object"),
        (b'"\xff"\n', "not UTF-8"),
        (b"[" * 60_000 + b"\n", "not JSON"),
        (b'"' + b"x" * (3 * MAX_LINE) + b'"\n', "too long"),
        (changed(user_id="planted"), "user_id is no UUID"),
        (changed(user_id=...), "user_id is missing or no text"),
        (changed(user_id=7), "user_id is missing or no text"),
        (changed(email="planted"), "the email must be an e-mail address"),
        (changed(email=None), "email is missing or no text"),
        (changed(first_name=""), "the first name must have 1 to 50 characters"),
        (changed(last_name="x" * 51), "the last name must have 1 to 50 characters"),
        (changed(first_name="a\u0000"), "the first name must not contain control characters"),
        (changed(first_name="\ud800"), "the text is not valid Unicode"),
        (changed(roles=["planted"]), "roles must be a list of viewer, creator, moderator"),
        (changed(roles="viewer"), "roles must be a list"),
        (changed(roles=[["viewer"]]), "roles must be a list"),
        (changed(account_status="planted"), "account_status must be one of active, suspended"),
        (changed(created_date=None), "created_date is missing or no text"),
        (changed(created_date="planted"), "created_date must be a date"),
        (changed(created_date="2020-01-01T00:00:00"), "created_date must be a date with a time zone"),
        (changed(created_date="1969-12-31T23:59:59Z"), "from 1970 to 2241"),
        (changed(created_date="0001-01-01T00:00:00+14:00"), "from 1970 to 2241"),
        (changed(last_login_date="9999-01-01T00:00:00Z"), "last_login_date must be a date"),
        (changed(password_hash="planted"), "password_hash must be a bcrypt hash"),
        (changed(password_hash=...), "password_hash is missing"),
    ],
)
def test_a_line_that_is_no_account_is_reported_and_the_rest_is_read(line: bytes, reason: str) -> None:
    good = Credentials(an_account(), HASH)
    refused, read_one = read(line, account_line(good))
    assert isinstance(refused, RefusedRow)
    assert refused.where == "line 2"
    assert reason in refused.reason
    assert "planted" not in refused.reason
    assert isinstance(read_one, Candidate)
    assert bare(read_one.credentials.account) == bare(good.account)


def test_a_last_line_without_an_end_is_read() -> None:
    (row,) = read(account_line(Credentials(an_account(), HASH)).rstrip(b"\n"))
    assert isinstance(row, Candidate)


def test_a_line_that_is_cut_off_is_reported() -> None:
    line = account_line(Credentials(an_account(), HASH))
    (row,) = read(line[: len(line) // 2])
    assert row == RefusedRow("line 2", "it is not JSON")


def test_the_same_id_or_address_twice() -> None:
    one = an_account()
    lines = [one, replace(an_account(), user_id=one.user_id), an_account(one.email.upper())]
    found = read(*(account_line(Credentials(account, HASH)) for account in lines))
    assert found[1:] == [
        RefusedRow("line 3", "line 2 has the same user_id"),
        RefusedRow("line 4", "line 2 has the same email"),
    ]


def test_a_refused_line_takes_no_id() -> None:
    one, other = an_account(), an_account()
    lines = [one, replace(other, email=one.email), other]
    found = read(*(account_line(Credentials(account, HASH)) for account in lines))
    assert [type(row) for row in found] == [Candidate, RefusedRow, Candidate]


def test_a_hash_of_a_high_cost_is_left_out() -> None:
    for cost, kept, kind in ((14, True, ""), (15, False, "bcrypt with a cost above 14")):
        text = HASH.replace("$04$", f"${cost}$")
        (row,) = read(changed(password_hash=text))
        assert isinstance(row, Candidate)
        assert (row.credentials.password_hash, row.unusable_password) == (text if kept else "", kind)


@pytest.mark.parametrize(
    ("roles", "password_hash", "is_reported"),
    [(["viewer"], "", False), (["viewer", "moderator"], "", True), (["viewer"], HASH, True)],
)
def test_without_an_address_it_is_profile_only(roles: list[str], password_hash: str, is_reported: bool) -> None:
    (row,) = read(changed(email="", roles=roles, password_hash=password_hash))
    assert isinstance(row, Candidate)
    assert (row.credentials.account.roles, row.credentials.password_hash) == (frozenset({Role.VIEWER}), "")
    assert bool(row.profile_only_because) == is_reported


def test_dates_of_other_zones_and_precisions() -> None:
    (row,) = read(changed(created_date="2020-01-01T01:00:00.1239+01:00", last_login_date=None))
    assert isinstance(row, Candidate)
    account = row.credentials.account
    assert account.created_date == datetime(2020, 1, 1, tzinfo=UTC) + timedelta(milliseconds=123)
    assert account.last_login_date is None
