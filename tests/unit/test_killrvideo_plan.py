"""From the rows of an existing KillrVideo database to accounts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killrvideo_grpc.domain.account import Account, AccountStatus, Role, normal_email
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.migration.killrvideo import Plan, plan
from killrvideo_grpc.migration.rows import Candidate
from killrvideo_grpc.migration.rules import text_violations
from killrvideo_grpc.migration.source import Source, SourceCredential, SourceUser
from tests.support.accounts import HASH

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
CREATED = datetime(2024, 5, 6, 7, 8, 9, 123000, UTC)
LOGIN = CREATED + timedelta(days=3)
VIEWER = frozenset({Role.VIEWER})
PLANTED = "planted-password"


def a_user(user_id: object, email: object = "ann@example.org", **fields: Any) -> SourceUser:
    user = SourceUser(f"users {user_id}", user_id, email, "Ann", "Lee", "active", CREATED, LOGIN)
    return replace(user, **fields)


def a_credential(user_id: object, email: object = "ann@example.org", **fields: Any) -> SourceCredential:
    credential = SourceCredential(f"user_credentials {user_id}", email, HASH, user_id, locked=False)
    return replace(credential, **fields)


def planned(users: list[SourceUser], credentials: list[SourceCredential], **options: Any) -> Plan:
    return plan(Source(users, credentials, options.pop("has_roles", False)), NOW, **options)


def one(user: dict[str, Any] | None = None, credential: dict[str, Any] | None = None) -> Candidate:
    """Return what becomes of one user with credentials."""
    user_id = uuid4()
    made = planned([a_user(user_id, **user or {})], [a_credential(user_id, **credential or {})])
    (candidate,) = made.accounts
    assert made.refused == []
    assert candidate.credentials.account.user_id == user_id
    return candidate


def account(candidate: Candidate) -> Account:
    return candidate.credentials.account


def is_profile_only(candidate: Candidate) -> bool:
    found = candidate.credentials
    has_nothing = (found.account.email, found.password_hash, found.account.roles) == ("", "", VIEWER)
    assert has_nothing == bool(candidate.profile_only_because)
    return has_nothing


def test_a_whole_account_is_kept_as_it_is() -> None:
    candidate = one()
    assert candidate.credentials.password_hash == HASH
    assert candidate.remarks == ()
    assert candidate.before == "active"
    assert account(candidate) == replace(
        account(candidate),
        email="ann@example.org",
        first_name="Ann",
        last_name="Lee",
        roles=VIEWER,
        status=AccountStatus.ACTIVE,
        created_date=CREATED,
        last_login_date=LOGIN,
    )


@pytest.mark.parametrize(
    "user_id", ["7777B733-A6B8-47E7-83AD-BC2739AE9954", UUID("7777b733-a6b8-47e7-83ad-bc2739ae9954")]
)
def test_an_id_is_kept_in_lower_case(user_id: object) -> None:
    (candidate,) = planned([a_user(user_id)], [a_credential(user_id)]).accounts
    assert str(account(candidate).user_id) == "7777b733-a6b8-47e7-83ad-bc2739ae9954"


@pytest.mark.parametrize("user_id", [None, "", PLANTED, "7777b733a6b847e783adbc2739ae9954", 7, ["x"]])
def test_an_id_that_is_no_uuid_is_refused(user_id: object) -> None:
    made = planned([a_user(user_id, where="users.csv line 2")], [])
    assert made.accounts == []
    assert [(row.where, row.reason) for row in made.refused] == [("users.csv line 2", "its user id is no UUID")]


def test_the_same_id_twice_is_reported() -> None:
    user_id = uuid4()
    users = [a_user(user_id, where="users.csv line 2"), a_user(user_id, where="users.csv line 3", first_name="Eve")]
    made = planned(users, [a_credential(user_id)])
    assert [account(each).first_name for each in made.accounts] == ["Ann"]
    assert [(row.where, row.reason) for row in made.refused] == [
        ("users.csv line 3", "users.csv line 2 has the same user id")
    ]


def test_the_address_that_logs_in_is_kept() -> None:
    candidate = one({"email": "old@example.org"}, {"email": " Bob@Example.org "})
    assert account(candidate).email == "Bob@Example.org"
    assert len(candidate.remarks) == 1
    assert "different addresses" in candidate.remarks[0]


@pytest.mark.parametrize(
    "email", ["nobody", "a b@example.org", "x" * 250 + "@example.org", "ann@localhost", "a@b\n.org"]
)
def test_an_address_that_the_contract_refuses_makes_a_profile(email: str) -> None:
    candidate = one({"email": email, "status": "moderator"}, {"email": email})
    assert is_profile_only(candidate)
    assert (account(candidate).first_name, account(candidate).created_date) == ("Ann", CREATED)


@pytest.mark.parametrize("masked", ["j***n@example.org", "********", "j*******************g"])
def test_a_masked_address_stops_the_import(masked: str) -> None:
    user_id = uuid4()
    for users, credentials in (
        ([a_user(user_id, masked)], []),
        ([a_user(user_id)], [a_credential(user_id, masked)]),
    ):
        with pytest.raises(SetupError, match="UNMASK"):
            planned(users, credentials)


def test_a_single_address_that_looks_masked_is_kept() -> None:
    ids, starred = [uuid4(), uuid4()], "a**b@example.org"
    made = planned([a_user(ids[0]), a_user(ids[1], starred)], [a_credential(ids[0]), a_credential(ids[1], starred)])
    assert [account(each).email for each in made.accounts] == ["ann@example.org", starred]


def test_of_two_rows_with_one_address_the_one_that_logs_in_owns_it() -> None:
    one_id, other_id = uuid4(), uuid4()
    users = [a_user(one_id, last_login=LOGIN + timedelta(days=9)), a_user(other_id, "ANN@example.org")]
    profile, owner = planned(users, [a_credential(other_id)]).accounts
    assert is_profile_only(profile)
    assert account(owner).email == "ann@example.org"


@pytest.mark.parametrize(("later", "winner"), [(1, 1), (-1, 0)])
def test_of_two_credentials_with_one_address_the_last_login_wins(later: int, winner: int) -> None:
    ids = [uuid4(), uuid4()]
    users = [a_user(ids[0]), a_user(ids[1], "ANN@example.org", last_login=LOGIN + timedelta(hours=later))]
    made = planned(users, [a_credential(ids[0]), a_credential(ids[1], "ANN@example.org")])
    assert [is_profile_only(each) for each in made.accounts] == [winner != 0, winner != 1]
    assert str(ids[winner]) in made.accounts[1 - winner].profile_only_because


def test_a_user_without_credentials_is_a_profile() -> None:
    (candidate,) = planned([a_user(uuid4(), status="moderator")], []).accounts
    assert is_profile_only(candidate)
    assert candidate.before == "moderator"


def test_credentials_without_a_user_are_an_account_without_names() -> None:
    user_id = uuid4()
    (candidate,) = planned([], [a_credential(user_id)]).accounts
    found = account(candidate)
    assert (found.user_id, found.email) == (user_id, "ann@example.org")
    assert (found.first_name, found.last_name, found.created_date) == ("Someone", "Unknown", NOW)
    assert candidate.credentials.password_hash == HASH
    assert candidate.remarks


@pytest.mark.parametrize("missing", [None, ""])
def test_credentials_that_name_no_user_are_matched_by_their_address(missing: object) -> None:
    user_id = uuid4()
    (candidate,) = planned([a_user(user_id)], [a_credential(missing, "ANN@example.org")]).accounts
    assert (account(candidate).user_id, account(candidate).email) == (user_id, "ANN@example.org")
    for users in ([], [a_user(uuid4()), a_user(uuid4())]):
        made = planned(users, [a_credential(missing)])
        assert all(map(is_profile_only, made.accounts))
        (row,) = made.refused
        assert "ann@example.org" in row.where


def test_a_second_address_of_one_user_is_refused() -> None:
    user_id = uuid4()
    both = [a_credential(user_id, "old@example.org", password=PLANTED), a_credential(user_id)]
    made = planned([a_user(user_id)], both)
    assert [account(each).email for each in made.accounts] == ["ann@example.org"]
    assert [row.where for row in made.refused] == [f"user_credentials {user_id} (old@example.org)"]


@pytest.mark.parametrize(
    ("password", "kind"),
    [
        (HASH.replace("$04$", "$14$"), ""),
        (HASH.replace("$2b$", "$2a$"), ""),
        (HASH.replace("$2b$", "$2y$"), ""),
        (HASH.replace("$04$", "$15$"), "bcrypt with a cost above 14"),
        ("913d199f349e540cf50caa123e5697cb1d6089eff315529b3ea3f7d9ff917632", "64 hexadecimal digits"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "MD5"),
        ("sha1:1000:abc:def", "PBKDF2"),
        ("a" * 128, "SHA-512"),
        (None, "missing"),
        ("", "missing"),
        (PLANTED, "unknown"),
        (7, "missing"),
        (HASH[:-1], "unknown"),
    ],
)
def test_only_bcrypt_hashes_are_kept(password: object, kind: str) -> None:
    candidate = one(credential={"password": password})
    assert candidate.unusable_password == kind
    assert candidate.credentials.password_hash == ("" if kind else password)
    assert account(candidate).email == "ann@example.org"


@pytest.mark.parametrize(
    ("status", "locked", "expected"),
    [
        (None, False, "active"),
        ("", None, "active"),
        ("active", "false", "active"),
        ("Viewer", False, "active"),
        ("creator", False, "active"),
        ("moderator", False, "active"),
        ("suspended", False, "suspended"),
        ("inactive", False, "suspended"),
        ("whatever", False, "suspended"),
        ("active", True, "suspended"),
        ("active", "True", "suspended"),
    ],
)
def test_status(status: object, locked: object, expected: str) -> None:
    assert account(one({"status": status}, {"locked": locked})).status == expected


def test_the_event_says_what_the_source_said() -> None:
    assert one({"status": "moderator"}, {"locked": True}).before == "moderator,locked"


@pytest.mark.parametrize(("status", "role"), [("moderator", Role.MODERATOR), ("Creator", Role.CREATOR)])
def test_tables_have_roles_in_the_status(status: str, role: Role) -> None:
    candidate = one({"status": status})
    assert account(candidate).roles == {Role.VIEWER, role}
    assert candidate.rewrites


@pytest.mark.parametrize("trust", [False, True])
def test_roles_in_documents_must_be_trusted(trust: bool) -> None:
    user_id = uuid4()
    users = [a_user(user_id, roles="moderator", status=None)]
    (candidate,) = planned(users, [a_credential(user_id)], has_roles=True, trust_roles=trust).accounts
    assert account(candidate).roles == ({Role.VIEWER, Role.MODERATOR} if trust else VIEWER)
    assert any("--trust-roles" in remark for remark in candidate.remarks) != trust
    assert candidate.before == "moderator"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  Zoë ", "Zoë"),
        ("a\u0000b\u202ec\nd", "abcd"),
        ("x" * 60, "x" * 50),
        ("x" * 49 + "   y", "x" * 49),
        ("", "Someone"),
        (None, "Someone"),
        ("\u200b\u00ad", "Someone"),
        ("\ud800", "Someone"),
        (5, "Someone"),
    ],
)
def test_names(given: object, kept: str) -> None:
    assert account(one({"first_name": given})).first_name == kept


@pytest.mark.parametrize(
    "created",
    [
        CREATED,
        "2024-05-06T07:08:09.123Z",
        "2024-05-06T07:08:09.123456789Z",
        "2024-05-06 07:08:09.123",
        "2024-05-06T09:08:09.123+02:00",
        1714979289123,
        "1714979289123",
    ],
)
def test_dates_are_kept_to_the_millisecond(created: object) -> None:
    assert account(one({"created": created})).created_date == CREATED


@pytest.mark.parametrize(("created", "seconds"), [("1714979289", 1714979289), ("99999999999", 99999999.999)])
def test_dates_can_be_numbers_since_1970(created: str, seconds: float) -> None:
    assert account(one({"created": created})).created_date == datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize("created", [None, "", "never", 0, 10**18, -(10**18), float("nan"), True, ["x"]])
def test_a_missing_or_impossible_creation_date_becomes_now(created: object) -> None:
    candidate = one({"created": created})
    assert account(candidate).created_date == NOW
    assert candidate.remarks


@pytest.mark.parametrize(
    ("login", "is_reported"),
    [
        *[(None, False), ("", False), (0, False), ("1970-01-01T00:00:00Z", False)],
        *[("never", True), (10**18, True), (CREATED - timedelta(seconds=1), True)],
    ],
)
def test_a_missing_or_impossible_last_login_is_left_out(login: object, is_reported: bool) -> None:
    candidate = one({"last_login": login})
    assert account(candidate).last_login_date is None
    assert bool(candidate.remarks) == is_reported


IDS = [str(uuid4()) for _ in range(3)]
EMAILS = ["ann@example.org", "ANN@example.org", "bob@example.org", "nobody", "", None]
ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.text(max_size=5), st.integers(), st.floats(), st.booleans(), st.datetimes(), st.just(PLANTED)
)
USERS = st.builds(
    SourceUser,
    st.just("users row"),
    st.one_of(st.sampled_from(IDS), ANYTHING),
    st.one_of(st.sampled_from(EMAILS), st.just(PLANTED)),
    *[ANYTHING] * 2,
    st.one_of(st.sampled_from(["active", "moderator", "suspended"]), st.none()),
    *[ANYTHING] * 3,
)
CREDENTIALS = st.builds(
    SourceCredential,
    st.just("user_credentials row"),
    st.sampled_from(EMAILS),
    st.one_of(st.sampled_from([HASH, PLANTED]), ANYTHING),
    st.one_of(st.sampled_from(IDS), st.none()),
    ANYTHING,
)


@settings(max_examples=30)
@given(st.lists(USERS, max_size=6), st.lists(CREDENTIALS, max_size=6), st.booleans(), st.booleans())
def test_whatever_the_rows_are(
    users: list[SourceUser], credentials: list[SourceCredential], has_roles: bool, trust_roles: bool
) -> None:
    made = planned(users, credentials, has_roles=has_roles, trust_roles=trust_roles)
    accounts = [account(each) for each in made.accounts]
    assert len({each.user_id for each in accounts}) == len(accounts)
    addresses = [normal_email(each.email) for each in accounts if each.email]
    assert len(set(addresses)) == len(addresses)
    for candidate in made.accounts:
        found = account(candidate)
        assert text_violations(found.email or "ann@example.org", found.first_name, found.last_name) == {}
        assert candidate.credentials.password_hash in ("", HASH)
        assert found.email or (candidate.credentials.password_hash == "" and found.roles == VIEWER)
        assert found.last_login_date is None or found.last_login_date >= found.created_date or found.created_date == NOW
    # Every row of `users` becomes an account or is refused, and no text shows a password.
    ids = {str(each.user_id) for each in accounts}
    rejected = [row for row in made.refused if row.where == "users row"]
    assert len(rejected) >= sum(1 for user in users if str(user.user_id).lower() not in ids)
    texts = [row.reason for row in made.refused] + [
        text for each in made.accounts for text in (*each.remarks, each.profile_only_because)
    ]
    assert PLANTED not in " ".join(texts)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_the_rows_does_not_matter(order: tuple[int, ...]) -> None:
    users = [a_user(UUID(int=number), "ann@example.org") for number in range(4)]
    credentials = [
        a_credential(UUID(int=number), ["ann@example.org", "ANN@example.org"][number % 2]) for number in order
    ]
    made = planned([users[number] for number in order], credentials)
    assert [each.credentials.account.user_id.int for each in made.accounts if each.credentials.account.email] == [3]
