"""Access tokens and their keys: the derivation, and which algorithm, issuer and audience count."""

import hashlib
import hmac
import json
import time
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from killrvideo_grpc.domain.account import now
from killrvideo_grpc.domain.errors import ServiceError, TokenExpired, TokenInvalid
from killrvideo_grpc.security.access_keys import access_keys, json_web_keys, key_set_document
from killrvideo_grpc.security.access_tokens import JwtAccessTokens
from tests.support.accounts import an_account
from tests.support.settings import KEY
from tests.support.tokens import claims, signed
from tests.support.use_cases import access_tokens

OTHER = KEY[::-1]
KID = "7CNGH9XEWtPCIJlXPeIiVxpCZbhfB42MAw7xKJnIn8g"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ALGORITHMS = ["ES256", "HS256", "HS384", "HS512"]


def issued(tokens: JwtAccessTokens) -> str:
    return tokens.issue(an_account(), "s", now() + timedelta(hours=1))[0]


def outcome(tokens: JwtAccessTokens, token: str) -> type[ServiceError] | None:
    try:
        tokens.verify(token)
    except ServiceError as error:
        return type(error)
    return None


def test_the_key_pair_is_the_documented_function_of_the_secret_key() -> None:
    """HKDF-SHA-256 (RFC 5869) by hand. Another derivation would end all tokens at an upgrade."""
    extracted = hmac.digest(bytes(32), KEY.encode(), "sha256")
    info = b"killrvideo.user.v1 access token ES256"
    first = hmac.digest(extracted, info + b"\1", "sha256")
    seed = first + hmac.digest(extracted, first + info + b"\2", "sha256")[:16]
    expected = ec.derive_private_key(int.from_bytes(seed) % (ORDER - 1) + 1, ec.SECP256R1())
    (key,) = access_keys([KEY], "ES256")
    assert key.signing.private_numbers() == expected.private_numbers()
    assert key.kid == KID


def test_public_keys_are_named_by_their_thumbprint_and_tell_nothing_else() -> None:
    keys = json.loads(key_set_document(json_web_keys(access_keys([KEY, OTHER], "ES256"))))["keys"]
    assert len({key["kid"] for key in keys}) == 2
    for key in keys:
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
        text = f'{{"crv":"P-256","kty":"EC","x":"{key["x"]}","y":"{key["y"]}"}}'
        digest = jwt.utils.base64url_encode(hashlib.sha256(text.encode()).digest()).decode()
        assert (key["kid"], key["use"], key["alg"]) == (digest, "sig", "ES256")
        assert jwt.PyJWK(key).key


def test_hmac_has_no_public_keys() -> None:
    assert json_web_keys(access_keys([KEY, OTHER], "HS256")) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_fallbacks_are_accepted_and_sign_nothing(algorithm: str) -> None:
    old, new = access_tokens(KEY, algorithm=algorithm), access_tokens(OTHER, algorithm=algorithm)
    both = access_tokens(OTHER, KEY, algorithm=algorithm)
    for token in (issued(old), issued(new)):
        assert outcome(both, token) is None
    assert outcome(new, issued(both)) is None
    assert outcome(old, issued(both)) is TokenInvalid
    assert outcome(both, issued(access_tokens("z" * 64, algorithm=algorithm))) is TokenInvalid


def test_an_expired_token_of_a_fallback_has_expired() -> None:
    for algorithm in ALGORITHMS:
        expired = signed(claims("x", "y", exp=int(time.time()) - 1), OTHER, algorithm)
        assert outcome(access_tokens(KEY, OTHER, algorithm=algorithm), expired) is TokenExpired


@pytest.mark.parametrize("used", ALGORITHMS)
@pytest.mark.parametrize("expected", ALGORITHMS)
def test_only_the_configured_algorithm_is_accepted(used: str, expected: str) -> None:
    token = issued(access_tokens(KEY, algorithm=used))
    assert outcome(access_tokens(KEY, algorithm=expected), token) is (None if used == expected else TokenInvalid)


def test_an_audience_or_none() -> None:
    with_one, without = access_tokens(KEY), access_tokens(KEY, audience=None)
    assert "aud" not in jwt.decode(issued(without), options={"verify_signature": False})
    assert outcome(without, issued(without)) is None
    assert outcome(without, issued(with_one)) is TokenInvalid
    assert outcome(with_one, issued(without)) is TokenInvalid
    assert outcome(access_tokens(KEY, audience="others"), issued(with_one)) is TokenInvalid


def test_the_issuer() -> None:
    own = access_tokens(KEY, issuer="https://users.example")
    assert outcome(own, issued(own)) is None
    assert outcome(own, issued(access_tokens(KEY))) is TokenInvalid


def test_the_expiry_is_that_of_the_token() -> None:
    tokens = access_tokens(KEY)
    token, expires = tokens.issue(an_account(), "s", now() + timedelta(hours=1))
    assert tokens.verify(token).expires_at == expires


@pytest.mark.parametrize("algorithm", ALGORITHMS[1:])
def test_no_key_is_in_a_repr(algorithm: str) -> None:
    (key,) = access_keys([KEY], algorithm)
    assert KEY not in repr(key)
    assert "kid=" in repr(key)
