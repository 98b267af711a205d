"""Every kind of token with one RPC, and every RPC of the contract with a few kinds."""

import base64
import json
import string
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import Message
from jwt.algorithms import ECAlgorithm
from jwt.utils import base64url_encode
from killrvideo.user.v1.user_service_pb2 import ChangePasswordRequest, GetMeRequest, LogoutRequest

from killrvideo_grpc.domain.account import Role
from tests.rpc.conftest import Account, Stub
from tests.rpc.requests import FOR_ACCOUNTS, PUBLIC, empower, good_request, role_for
from tests.support.accounts import PASSWORD
from tests.support.calls import Metadata, bearer
from tests.support.errors import read_failure
from tests.support.tokens import claims, handmade, signed, signing_key, with_public_key_as_secret

Code = grpc.StatusCode

NOT_AUTHENTICATED = (Code.UNAUTHENTICATED, "NOT_AUTHENTICATED", "Not authenticated")
EXPIRED = (Code.UNAUTHENTICATED, "TOKEN_EXPIRED", "Token has expired")
INVALID = (Code.UNAUTHENTICATED, "TOKEN_INVALID", "Could not validate credentials")
NO_SUBJECT = (Code.UNAUTHENTICATED, "TOKEN_SUBJECT_INVALID", "Invalid token subject")
GONE = (Code.NOT_FOUND, "USER_NOT_FOUND", "User not found")
ENDED = (Code.UNAUTHENTICATED, "SESSION_ENDED", "Session has ended")
GOOD = None
HEADER = {"alg": "ES256", "typ": "JWT", "kid": signing_key().kid}
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def changed(account: Account, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a good token's claims with changes. Functions are called, for dates that are relative to the call."""
    now = {name: value() if callable(value) else value for name, value in changes.items()}
    return claims(account.user_id, account.session_id, **now)


def token(**changes: Any) -> Callable[[Account], Metadata]:
    return lambda account: bearer(signed(changed(account, changes)))


def by_hand(*, padding: bool = False, **changes: Any) -> Callable[[Account], Metadata]:
    return lambda account: bearer(handmade(HEADER, changed(account, changes), padding=padding))


def by_hand_with(**changes: Any) -> Callable[[Account], Metadata]:
    return lambda account: bearer(handmade(HEADER | changes, claims(account.user_id, account.session_id)))


def with_own_key(body: dict[str, Any]) -> str:
    own = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(ECAlgorithm.to_jwk(own.public_key()))
    return jwt.encode(body, own, "ES256", {"kid": signing_key().kid, "jwk": public})


def of_another_curve(body: dict[str, Any]) -> str:
    """A genuine kid, and a signature of a key on P-384 where one of P-256 is expected."""
    head = handmade(HEADER, body).rpartition(".")[0]
    own = ec.generate_private_key(ec.SECP384R1())
    return f"{head}.{base64url_encode(ECAlgorithm(ECAlgorithm.SHA256).sign(head.encode(), own)).decode()}"


def with_surplus_bits(account: Account) -> Metadata:
    """The 86 characters of a 512-bit signature have four surplus bits, which decoders ignore."""
    token = account.login.token
    last = ALPHABET.index(token[-1])
    assert last % 16 == 0
    return bearer(token[:-1] + ALPHABET[last + 1])


def sent(text: str) -> Callable[[Account], Metadata]:
    return lambda account: (("authorization", text),)


def of_an_ended_session(account: Account) -> Metadata:
    ended = bearer(account.log_in().token)
    account.stub.Logout(LogoutRequest(), metadata=ended)
    return ended


def of_an_old_password(account: Account) -> Metadata:
    old, current = bearer(account.log_in().token), PASSWORD
    metadata = bearer(account.log_in().token)
    for new in ("another password", PASSWORD):  # and back again, so that the account is unchanged
        change = ChangePasswordRequest(current_password=current, new_password=new)
        metadata = bearer(account.stub.ChangePassword(change, metadata=metadata).token)
        current = new
    return old


def with_the_session_of_another(account: Account) -> Metadata:
    other = Account(account.stub, account.database)
    return bearer(signed(claims(account.user_id, other.session_id)))


def present() -> int:
    return int(time.time())


TOKENS: dict[str, tuple[Callable[[Account], Metadata], tuple[grpc.StatusCode, str, str] | None]] = {
    "good": (token(), GOOD),
    "good, scheme in other letters": (lambda account: (("authorization", f"bEARER {account.login.token}"),), GOOD),
    "good, with claims of its own": (token(extra="x"), GOOD),
    "good, forged role": (token(roles=["moderator"]), GOOD),  # the account's roles decide, see below
    "good, without roles": (token(roles=None), GOOD),
    "none": (lambda account: (), NOT_AUTHENTICATED),
    "empty": (sent(""), NOT_AUTHENTICATED),
    "scheme alone": (sent("Bearer"), NOT_AUTHENTICATED),
    "scheme and space": (sent("Bearer  "), NOT_AUTHENTICATED),
    "other scheme": (sent("Basic dXNlcjpwYXNz"), NOT_AUTHENTICATED),
    "no scheme": (lambda account: (("authorization", account.login.token),), NOT_AUTHENTICATED),
    "two headers": (lambda account: account.metadata * 2, INVALID),
    "two in one": (lambda account: (("authorization", f"Bearer {account.login.token}, Bearer x"),), INVALID),
    "garbage": (sent("Bearer garbage"), INVALID),
    "null": (sent("Bearer null"), INVALID),
    "deep": (sent("Bearer " + base64.b64encode(b"[" * 3000).decode() + ".e30.e30"), INVALID),
    "cut": (lambda account: bearer(account.login.token[:-2]), INVALID),
    "expired": (token(exp=lambda: present() - 1), EXPIRED),
    "good, from a clock that is ahead": (token(nbf=lambda: present() + 20, iat=lambda: present() + 20), GOOD),
    "not yet valid": (token(nbf=lambda: present() + 600), INVALID),
    "issued in the future": (token(iat=lambda: present() + 600), INVALID),
    "no exp": (token(exp=None), INVALID),
    "exp no number": (token(exp="tomorrow"), INVALID),
    "exp as text": (by_hand(exp=lambda: str(present() + 600)), INVALID),
    "iat as text": (by_hand(iat=lambda: str(present())), INVALID),
    "nbf as text": (by_hand(nbf=lambda: str(present())), INVALID),
    "padded": (lambda account: bearer(account.login.token + "="), INVALID),
    "padded inside": (by_hand(padding=True), INVALID),
    "odd characters": (lambda account: bearer(account.login.token + "!"), INVALID),
    "signature spelled otherwise": (with_surplus_bits, INVALID),
    "exp without end": (
        lambda account: bearer(handmade(HEADER, claims(account.user_id, account.session_id, exp=1e999))),
        INVALID,
    ),
    "no iat": (token(iat=None), INVALID),
    "no nbf": (token(nbf=None), INVALID),
    "no jti": (token(jti=None), INVALID),
    "jti no text": (token(jti=1), INVALID),
    "no sid": (token(sid=None), INVALID),
    "sid no text": (token(sid=7), INVALID),
    "sid unknown": (token(sid=str(uuid4())), ENDED),
    "session of another account": (with_the_session_of_another, ENDED),
    "session ended": (of_an_ended_session, ENDED),
    "session of an old password": (of_an_old_password, ENDED),
    "refresh token": (lambda account: bearer(account.login.refresh_token), INVALID),
    "no sub": (token(sub=None), NO_SUBJECT),
    "sub no UUID": (token(sub="ann"), NO_SUBJECT),
    "sub in another spelling": (
        lambda account: bearer(signed(claims("{" + account.user_id.upper() + "}", account.session_id))),
        NO_SUBJECT,
    ),
    "sub no text": (lambda account: bearer(handmade(HEADER, claims("", account.session_id) | {"sub": 7})), NO_SUBJECT),
    "sub unknown": (token(sub=str(uuid4())), GONE),
    "no iss": (token(iss=None), INVALID),
    "wrong iss": (token(iss="someone"), INVALID),
    "no aud": (token(aud=None), INVALID),
    "wrong aud": (token(aud="others"), INVALID),
    "aud no text": (token(aud=[1]), INVALID),
    "other key": (
        lambda account: bearer(signed(claims(account.user_id, account.session_id), key="other" * 16)),
        INVALID,
    ),
    "alg none": (
        lambda account: bearer(handmade({"alg": "none"}, claims(account.user_id, account.session_id), b"")),
        INVALID,
    ),
    "alg none, signed": (
        lambda account: bearer(handmade({"alg": "NONE"}, claims(account.user_id, account.session_id))),
        INVALID,
    ),
    "no alg": (lambda account: bearer(handmade({"typ": "JWT"}, claims(account.user_id, account.session_id))), INVALID),
    "HMAC with SECRET_KEY": (
        lambda account: bearer(signed(claims(account.user_id, account.session_id), algorithm="HS256")),
        INVALID,
    ),
    "HMAC with the public key": (
        lambda account: bearer(with_public_key_as_secret(claims(account.user_id, account.session_id))),
        INVALID,
    ),
    "another alg": (by_hand_with(alg="ES384"), INVALID),
    "no kid": (by_hand_with(kid=None), INVALID),
    "unknown kid": (by_hand_with(kid="x"), INVALID),
    "kid no text": (by_hand_with(kid=[1]), INVALID),
    "key of its own in the header": (
        lambda account: bearer(with_own_key(claims(account.user_id, account.session_id))),
        INVALID,
    ),
    "another curve": (lambda account: bearer(of_another_curve(claims(account.user_id, account.session_id))), INVALID),
    "too long": (token(extra="x" * 4096), INVALID),
    "unknown critical header": (
        lambda account: bearer(handmade(HEADER | {"crit": ["x"], "x": 1}, claims(account.user_id, account.session_id))),
        INVALID,
    ),
    "claims no object": (lambda account: bearer(handmade(HEADER, [])), INVALID),  # type: ignore[arg-type]
}


# One interceptor checks the tokens of all RPCs, so a few kinds show that it checks those of each.
FEW = ["good", "none", "garbage", "session ended"]


@pytest.mark.parametrize("kind", TOKENS)
def test_every_kind_of_token(grpc_stub: Stub, account: Account, kind: str) -> None:
    metadata, expected = TOKENS[kind]
    assert outcome(grpc_stub, "GetMe", GetMeRequest(), metadata(account)) == expected


@pytest.mark.parametrize("rpc", FOR_ACCOUNTS)
@pytest.mark.parametrize("kind", FEW)
def test_rpcs_for_accounts(grpc_stub: Stub, account: Account, rpc: str, kind: str) -> None:
    metadata, expected = TOKENS[kind]
    empower(account, rpc)
    assert outcome(grpc_stub, rpc, good_request(rpc, account), metadata(account)) == expected


@pytest.mark.parametrize("rpc", PUBLIC)
@pytest.mark.parametrize("kind", FEW)
def test_public_rpcs_ignore_tokens(grpc_stub: Stub, account: Account, rpc: str, kind: str) -> None:
    assert outcome(grpc_stub, rpc, good_request(rpc, account), TOKENS[kind][0](account)) is None


@pytest.mark.parametrize("rpc", FOR_ACCOUNTS)
@pytest.mark.parametrize("role", Role)
def test_the_role_that_the_contract_asks_for(grpc_stub: Stub, account: Account, rpc: str, role: Role) -> None:
    account.change("roles", f'["{role}"]')
    needed = role_for(rpc)
    assert needed
    message = f"User does not have required roles: {[each.value for each in needed.sufficient]}"
    refused = (Code.PERMISSION_DENIED, "ROLE_REQUIRED", message)
    expected = None if role in needed.sufficient else refused
    assert outcome(grpc_stub, rpc, good_request(rpc, account), account.metadata) == expected


def test_the_current_state_of_the_account_decides(grpc_stub: Stub, account: Account) -> None:
    def now() -> tuple[grpc.StatusCode, str, str] | None:
        return outcome(grpc_stub, "GetMe", GetMeRequest(), account.metadata)

    assert now() is None
    account.change("account_status", "suspended")
    assert now() == (Code.PERMISSION_DENIED, "ACCOUNT_SUSPENDED", "Account is suspended")
    account.change("account_status", "active")
    account.change("roles", "[]")
    assert now() == (Code.PERMISSION_DENIED, "NO_ROLES_ASSIGNED", "User has no roles assigned")
    account.change("roles", '["moderator"]')
    assert now() is None
    account.delete()
    assert now() == GONE


def outcome(stub: Stub, rpc: str, request: Message, metadata: Metadata) -> tuple[grpc.StatusCode, str, str] | None:
    try:
        getattr(stub, rpc)(request, metadata=metadata)
    except grpc.RpcError as error:
        failure = read_failure(error)
        return failure.code, str(failure.reason), failure.message
    return None
