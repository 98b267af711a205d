"""Tokens that no verifier may accept, whatever claims it checks."""

import time
from collections.abc import Callable

import jwt
import pytest

from tests.support.settings import KEY
from tests.support.tokens import Claims, handmade, signed, with_public_key_as_secret

FORGED: dict[str, Callable[[Claims], str]] = {
    "expired": lambda body: signed(body | {"exp": int(time.time()) - 120}),
    "other key": lambda body: signed(body, KEY[::-1]),
    "alg none": lambda body: handmade({"alg": "none"}, body, b""),
    "HMAC with the public key": with_public_key_as_secret,
    "HMAC with SECRET_KEY": lambda body: signed(body, algorithm="HS256"),
    "changed claims": lambda body: ".".join(
        [*signed(body | {"roles": ["moderator"]}).split(".")[:2], signed(body).split(".")[2]]
    ),
}
kinds = pytest.mark.parametrize("kind", FORGED)


def forged(kind: str, token: str) -> str:
    return FORGED[kind](jwt.decode(token, options={"verify_signature": False}))
