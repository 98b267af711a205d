"""Refresh tokens: which ones are accepted, and for which session."""

import base64
from uuid import UUID, uuid4

import jwt
import pytest

from killrvideo_grpc.domain.errors import RefreshTokenInvalid
from killrvideo_grpc.domain.ports import RefreshClaims
from killrvideo_grpc.security.refresh_tokens import AUDIENCE, JwtRefreshTokens
from killrvideo_grpc.security.signed_tokens import ALGORITHM
from tests.support.settings import KEY

CLAIMS = RefreshClaims(UUID("11111111-1111-4111-8111-111111111111"), "22222222-2222-4222-8222-222222222222", 3)
BODY = {"sub": str(CLAIMS.user_id), "sid": CLAIMS.session_id, "gen": CLAIMS.generation, "aud": AUDIENCE}


@pytest.fixture
def tokens() -> JwtRefreshTokens:
    return JwtRefreshTokens([KEY])


def refused(tokens: JwtRefreshTokens, token: str) -> bool:
    try:
        tokens.verify(token)
    except RefreshTokenInvalid:
        return True
    return False


def test_equal_claims_give_equal_tokens_in_every_process(tokens: JwtRefreshTokens) -> None:
    other = JwtRefreshTokens([KEY])
    assert tokens.issue(CLAIMS) == other.issue(CLAIMS)
    assert other.verify(tokens.issue(CLAIMS)) == CLAIMS


def test_the_key_is_derived_from_the_secret_key_and_not_the_same(tokens: JwtRefreshTokens) -> None:
    genuine = tokens.issue(CLAIMS)
    assert refused(JwtRefreshTokens([f"{KEY}."]), genuine)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(genuine, KEY, [ALGORITHM], audience=AUDIENCE)
    signed_with_it = jwt.encode(BODY, KEY, ALGORITHM)
    assert signed_with_it.split(".")[:2] == genuine.split(".")[:2]  # they only differ in the key
    assert refused(tokens, signed_with_it)


def test_fallbacks_are_accepted_and_sign_nothing(tokens: JwtRefreshTokens) -> None:
    new, both = JwtRefreshTokens([f"{KEY}."]), JwtRefreshTokens([f"{KEY}.", f"{KEY}?", KEY])
    assert both.issue(CLAIMS) == new.issue(CLAIMS)
    for token in (tokens.issue(CLAIMS), new.issue(CLAIMS)):
        assert both.verify(token) == CLAIMS
        assert refused(both, token + "=")
    assert refused(tokens, both.issue(CLAIMS))


def test_padding_is_refused(tokens: JwtRefreshTokens) -> None:
    genuine = tokens.issue(CLAIMS)
    parts = genuine.split(".")
    for place in range(3):
        padded = [part + "=" * (-len(part) % 4 or 4) if n == place else part for n, part in enumerate(parts)]
        assert refused(tokens, ".".join(padded))
    assert not refused(tokens, genuine)


def test_the_other_alphabet_of_base64_is_refused(tokens: JwtRefreshTokens) -> None:
    issued = (tokens.issue(RefreshClaims(uuid4(), CLAIMS.session_id, 1)) for _ in range(1000))
    genuine = next(token for token in issued if {"-", "_"} <= set(token.rpartition(".")[2]))
    head, _, signature = genuine.rpartition(".")
    assert not refused(tokens, genuine)
    assert refused(tokens, f"{head}.{signature.translate(str.maketrans('-_', '+/'))}")


def test_unused_bits_of_the_signature_must_be_zero(tokens: JwtRefreshTokens) -> None:
    """Two bits of a signature's last character are unused, so four characters decode to the same bytes."""
    genuine = tokens.issue(CLAIMS)
    signature = decoded(genuine)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same = [token for letter in alphabet if decoded(token := genuine[:-1] + letter) == signature]
    assert len(same) == 4
    assert [token for token in same if not refused(tokens, token)] == [genuine]


def decoded(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.rpartition(".")[2] + "=")
