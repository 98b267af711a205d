"""Refresh tokens: JSON Web Tokens with a session id and a generation."""

from collections.abc import Sequence
from uuid import UUID

import jwt

from killrvideo_grpc.domain.errors import RefreshTokenInvalid
from killrvideo_grpc.domain.ports import RefreshClaims
from killrvideo_grpc.security.keys import derived_key

ALGORITHM = "HS256"
AUDIENCE = "killrvideo.refresh"


class JwtRefreshTokens:
    """Implements `RefreshTokens`. They contain no dates: a refresh token expires with its session.

    Tokens signed with `fallbacks` are accepted too.
    """

    def __init__(self, key: str, fallbacks: Sequence[str] = ()) -> None:
        self._keys = [derived_key(each, "refresh token") for each in (key, *fallbacks)]
        self._jwt = jwt.PyJWT()

    def issue(self, claims: RefreshClaims) -> str:
        return self._signed(claims, self._keys[0])

    def verify(self, token: str) -> RefreshClaims:
        """Return the claims of a token. Raise RefreshTokenInvalid unless it is exactly one that was issued."""
        for key in self._keys:
            try:
                body = self._jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE)
                claims = RefreshClaims(UUID(body["sub"]), str(body["sid"]), int(body["gen"]))
                is_ours = self._signed(claims, key) == token  # base64 can write the same bytes in several ways
            except (jwt.PyJWTError, ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
                continue
            if is_ours:
                return claims
        raise RefreshTokenInvalid

    def _signed(self, claims: RefreshClaims, key: bytes) -> str:
        body = {"sub": str(claims.user_id), "sid": claims.session_id, "gen": claims.generation, "aud": AUDIENCE}
        return self._jwt.encode(body, key, algorithm=ALGORITHM)
