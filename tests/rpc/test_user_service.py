"""Register, Login, GetMe and UpdateMe, as callers see them."""

import time
from typing import Any

import bcrypt
import grpc
import jwt
import pytest
from killrvideo.user.v1 import user_pb2
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, LoginRequest, RegisterRequest, UpdateMeRequest

from killrvideo_grpc.config.settings import Settings
from tests.rpc.conftest import Account, Stub
from tests.support.accounts import PASSWORD, an_address
from tests.support.calls import registration
from tests.support.errors import Failure, read_failure
from tests.support.hashing import CountingHasher
from tests.support.tokens import signing_key

Code = grpc.StatusCode


def register(stub: Stub, **changes: str) -> str:
    values = {"email": an_address(), "password": PASSWORD, "first_name": "Ann", "last_name": "Lee"} | changes
    return stub.Register(RegisterRequest(**values)).user_id


def failing(call: Any, request: object, **options: object) -> Failure:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **options)
    return read_failure(caught.value)


def test_register_returns_what_it_stored(grpc_stub: Stub) -> None:
    email = an_address()
    answer = grpc_stub.Register(
        RegisterRequest(email=f" {email.upper()} ", password=PASSWORD, first_name="  Ann\t", last_name="Lee\u3000")
    )
    assert (answer.first_name, answer.last_name, answer.email) == ("Ann", "Lee", email.upper())
    assert len(answer.user_id) == 36
    login = grpc_stub.Login(LoginRequest(email=f"\n{email}", password=PASSWORD))
    assert login.user.user_id == answer.user_id
    assert list(login.user.roles) == ["viewer"]
    assert login.user.account_status == "active"


def test_a_taken_address(grpc_stub: Stub, account: Account) -> None:
    failure = failing(
        grpc_stub.Register,
        registration(account.email.upper()),
    )
    assert (failure.code, failure.message, failure.reason) == (
        Code.ALREADY_EXISTS,
        "Email already registered",
        "EMAIL_ALREADY_REGISTERED",
    )


def test_every_violation_is_reported(grpc_stub: Stub) -> None:
    failure = failing(grpc_stub.Register, RegisterRequest(email="nobody", password="short\0", last_name="x" * 51))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert failure.message.startswith("4 fields are invalid: email must be an e-mail address, like bob@example.org; ")
    assert failure.message.endswith("; lastName must have 1 to 50 characters, not counting surrounding white space")
    assert list(failure.violations) == ["email", "password", "firstName", "lastName"]
    assert len(failure.violations["password"]) == 2


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (
            "first_name",
            ["x", "x" * 50, f"  {'李' * 50}\n", "O'Brien", "شيرين", "\u200dx", "☃"],
            ["", " ", "x" * 51, "a\0b", "a\u202eb", "a\u2028b", "a\u2029b"],
        ),
        (
            "last_name",
            ["x", "x" * 50],
            [
                "",
                "\u3000\t",
                "x" * 51,
                "a\x1b[2J",
                *"\u200b\u00ad\u3164\u2800\ufeff\u115f\ufe0f\u034f\u0301\uffa0\ue000\ufffe\U0001d159",
            ],
        ),
        (
            "password",
            ["12345678", "x" * 72, "ü" * 36, "u\u0308" * 36, " 234567 "],
            ["1234567", "x" * 73, "ü" * 37, "u\u0308" * 7, "\u0958" * 13, " " * 8, "1234567\0", "u\u0308" * 100_000],
        ),
        (
            "email",
            ["{}@x.org", "{}+tag@sub.x-y.org", "{}ü@bücher.example", "o'{}@x.org"],
            [
                "",
                " ",
                "{}",
                "@x.org",
                "{}@",
                "{}@x",
                "a@{}@x.org",
                "a b{}@x.org",
                "{}@x..org",
                ".{}@x.org",
                "<{}@x.org>",
                "{}\ufe0f@x.org",
                "{}\u3164@x.org",
                "{}@\u3164.org",
                "{}@\u0301.org",
                "{}@x.\u0301",
                "{}@x.org." + "d" * 64,
                "{}@-x.org",
                "{}@x-.org",
                "\u0301{}@x.org",
            ],
        ),
    ],
)
def test_register_enforces_shape_rules(grpc_stub: Stub, field: str, good: list[str], bad: list[str]) -> None:
    name = {"first_name": "firstName", "last_name": "lastName"}.get(field, field)
    for value in good:
        assert register(grpc_stub, **{field: value.format(an_address()[:8])})
    for value in bad:
        values = {"email": an_address(), "password": PASSWORD, "first_name": "Ann", "last_name": "Lee"}
        values[field] = value.format(an_address()[:8])
        failure = failing(grpc_stub.Register, RegisterRequest(**values))
        assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, [name]), value


def test_an_address_may_have_254_characters(grpc_stub: Stub) -> None:
    domain = "@" + "d" * 63 + ".example.org"
    local = an_address()[:32]
    longest = local + "x" * (254 - len(local) - len(domain)) + domain
    assert register(grpc_stub, email=longest)
    failure = failing(
        grpc_stub.Register, RegisterRequest(email="x" + longest, password=PASSWORD, first_name="Ann", last_name="Lee")
    )
    assert list(failure.violations) == ["email"]


@pytest.mark.parametrize(
    ("typed", "other"),
    [
        ("Bob{}@X.org", "bob{}@x.org"),
        ("ann{}@bücher.example", "Ann{}@xn--bcher-kva.example"),
        ("ann{}@BÜCHER.example", "ann{}@XN--Bcher-KVA.example"),
        ("{}\u0391\u03a3.\u0391@x.org", "{}\u03b1\u03c2.\u03b1@x.org"),
        ("{}@straße.example", "{}@xn--strae-oqa.example"),
        ("{}straße@x.org", "{}STRASSE@x.org"),
    ],
)
def test_spellings_of_one_mailbox_are_one_account(grpc_stub: Stub, typed: str, other: str) -> None:
    mark = an_address()[:8]
    user_id = register(grpc_stub, email=typed.format(mark))
    failure = failing(
        grpc_stub.Register,
        RegisterRequest(email=other.format(mark), password=PASSWORD, first_name="Ann", last_name="Lee"),
    )
    assert failure.reason == "EMAIL_ALREADY_REGISTERED"
    login = grpc_stub.Login(LoginRequest(email=other.format(mark), password=PASSWORD))
    assert (login.user.user_id, login.user.email) == (user_id, typed.format(mark))


def test_a_password_is_one_however_a_keyboard_composes_it(grpc_stub: Stub) -> None:
    address, composed, decomposed = an_address(), "ångström", "a\u030angstro\u0308m"
    user_id = register(grpc_stub, email=address, password=decomposed)
    for password in (composed, decomposed):
        assert grpc_stub.Login(LoginRequest(email=address, password=password)).user.user_id == user_id


def test_text_in_another_encoding_is_a_violation_of_its_field(grpc_channel: grpc.Channel) -> None:
    request = registration(an_address()).SerializeToString()
    latin = request.replace(b"Ann", "Änn".encode("latin-1"), 1)
    assert latin != request
    send: Any = grpc_channel.unary_unary("/killrvideo.user.v1.UserService/Register")
    failure = failing(send, latin)
    assert (failure.reason, failure.violations) == ("VALIDATION_FAILED", {"firstName": ["must be in UTF-8"]})


def test_the_token_says_whose_it_is_and_until_when(account: Account) -> None:
    claims = jwt.decode(
        account.login.token, signing_key().verifying, ["ES256"], audience="killrvideo", issuer="killrvideo.user.v1"
    )
    assert set(claims) == {"sub", "sid", "roles", "exp", "iat", "nbf", "iss", "aud", "jti"}
    assert (claims["sub"], claims["roles"]) == (account.user_id, ["viewer"])
    assert claims["exp"] == account.login.expires_at.seconds == claims["iat"] + 30 * 60


BAD_LOGINS = {
    "unknown address": (an_address(), PASSWORD),
    "malformed address": ("nobody", PASSWORD),
    "blank address": ("  ", PASSWORD),
    "address of a megabyte": ("x" * 1_000_000, PASSWORD),
    "address that is dear to normalise": ("a" + "\u0300" * 60_000 + "\u0316" * 60_000, PASSWORD),
    "wrong password": (None, "wrong"),
    "password in other letters": (None, PASSWORD.upper()),
    "blank password": (None, " "),
    "password over 72 bytes": (None, PASSWORD * 10),
    "password with NUL": (None, f"{PASSWORD}\0{PASSWORD}"),
}


@pytest.mark.parametrize("case", [*BAD_LOGINS, "suspended account"])
def test_all_bad_logins_cost_one_hash_and_get_the_same_error(
    grpc_stub: Stub, account: Account, case: str, hasher: CountingHasher, settings: Settings
) -> None:
    if case == "suspended account":
        account.change("account_status", "suspended")
    email, password = BAD_LOGINS.get(case, (None, PASSWORD))
    hasher.costs.clear()
    failure = failing(grpc_stub.Login, LoginRequest(email=email or account.email, password=password))
    assert (failure.code, failure.message, failure.reason, failure.violations) == (
        Code.UNAUTHENTICATED,
        "Incorrect email or password",
        "INVALID_CREDENTIALS",
        {},
    )
    assert hasher.costs == [settings.bcrypt_rounds]


def test_login_only_requires_that_credentials_are_not_empty(grpc_stub: Stub) -> None:
    failure = failing(grpc_stub.Login, LoginRequest())
    assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["email", "password"])
    assert failure.message == "2 fields are invalid: email is required; password is required"


def test_a_login_renews_a_hash_of_another_cost(grpc_stub: Stub, account: Account, settings: Settings) -> None:
    account.change("hashed_password", bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode())
    for _ in range(2):
        grpc_stub.Login(LoginRequest(email=account.email, password=PASSWORD))
    ((renewed,),) = account.execute("SELECT hashed_password FROM accounts WHERE userid = ?", account.user_id)
    assert renewed.startswith(f"$2b$0{settings.bcrypt_rounds}$")


def test_a_login_is_dated(grpc_stub: Stub, account: Account) -> None:
    before = grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata)
    assert before == account.login.user
    assert before.created_date.ToMilliseconds() <= before.last_login_date.ToMilliseconds()
    assert before.last_login_date.ToMilliseconds() <= time.time() * 1000
    grpc_stub.Login(LoginRequest(email=account.email, password=PASSWORD))
    after = grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata)
    assert after.last_login_date.ToMilliseconds() >= before.last_login_date.ToMilliseconds()


def test_get_me(grpc_stub: Stub, account: Account) -> None:
    me = grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata)
    assert (me.user_id, me.email, me.first_name, me.last_name) == (account.user_id, account.email, "Ann", "Lee")
    assert (list(me.roles), me.account_status) == (["viewer"], "active")


def test_roles_come_in_the_order_of_the_ladder(grpc_stub: Stub, account: Account) -> None:
    account.change("roles", '["viewer", "moderator", "creator", "admin"]')
    assert list(grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata).roles) == ["viewer", "creator", "moderator"]


def test_update_me_only_changes_the_given_names(grpc_stub: Stub, account: Account) -> None:
    def update(**names: str) -> user_pb2.User:
        return grpc_stub.UpdateMe(UpdateMeRequest(**names), metadata=account.metadata)

    assert (update(first_name=" Bea ").first_name, update().first_name) == ("Bea", "Bea")
    assert update(last_name="Ray").first_name == "Bea"
    me = grpc_stub.GetMe(GetMeRequest(), metadata=account.metadata)
    assert (me.first_name, me.last_name) == ("Bea", "Ray")


def test_an_empty_update_writes_nothing(grpc_stub: Stub, account: Account) -> None:
    account.execute(
        "CREATE TRIGGER IF NOT EXISTS no_writes BEFORE UPDATE ON accounts BEGIN SELECT RAISE(ABORT, 'w'); END"
    )
    try:
        assert grpc_stub.UpdateMe(UpdateMeRequest(), metadata=account.metadata).user_id == account.user_id
        failure = failing(grpc_stub.UpdateMe, UpdateMeRequest(first_name="Bea"), metadata=account.metadata)
        assert failure.code is Code.UNAVAILABLE  # so the trigger does detect writes
    finally:
        account.execute("DROP TRIGGER no_writes")


def test_update_me_refuses_an_explicit_empty_name(grpc_stub: Stub, account: Account) -> None:
    failure = failing(grpc_stub.UpdateMe, UpdateMeRequest(first_name="", last_name=" "), metadata=account.metadata)
    assert (failure.code, list(failure.violations)) == (Code.INVALID_ARGUMENT, ["firstName", "lastName"])


def test_access_is_checked_before_shape(grpc_stub: Stub) -> None:
    failure = failing(grpc_stub.UpdateMe, UpdateMeRequest(first_name=""))
    assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "NOT_AUTHENTICATED")


def test_a_store_that_fails_is_unavailable(grpc_stub: Stub, account: Account) -> None:
    account.execute("ALTER TABLE accounts RENAME TO away")
    try:
        failure = failing(grpc_stub.GetMe, GetMeRequest(), metadata=account.metadata)
    finally:
        account.execute("ALTER TABLE away RENAME TO accounts")
    assert (failure.code, failure.reason, failure.retry_seconds) == (Code.UNAVAILABLE, "STORE_UNAVAILABLE", 1)
    assert failure.message == "The user store is unavailable. Try again in a moment."
