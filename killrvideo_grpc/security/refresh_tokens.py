"""Refresh tokens: signed tokens with a session id and a generation."""

from collections.abc import Sequence
from uuid import UUID

from killrvideo_grpc.domain.errors import RefreshTokenInvalid
from killrvideo_grpc.domain.ports import RefreshClaims
from killrvideo_grpc.security.signed_tokens import SignedTokens

AUDIENCE = "killrvideo.refresh"


class JwtRefreshTokens:
    """Implements `RefreshTokens`. They contain no dates: a refresh token expires with its session.

    The first of `keys` signs, all verify.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._tokens = SignedTokens(keys, "refresh token", AUDIENCE)

    def issue(self, claims: RefreshClaims) -> str:
        return self._tokens.issue({"sub": str(claims.user_id), "sid": claims.session_id, "gen": claims.generation})

    def verify(self, token: str) -> RefreshClaims:
        """Return the claims of a token. Raise RefreshTokenInvalid unless it is exactly one that was issued."""
        claims = self._tokens.verify(token)
        if claims is None:
            raise RefreshTokenInvalid
        return RefreshClaims(UUID(claims["sub"]), claims["sid"], claims["gen"])
