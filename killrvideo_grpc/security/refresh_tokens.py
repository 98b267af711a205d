"""Refresh tokens: JSON Web Tokens with a session id and a generation."""

from uuid import UUID

import jwt

from killrvideo_grpc.domain.errors import RefreshTokenInvalid
from killrvideo_grpc.domain.ports import RefreshClaims
from killrvideo_grpc.security.keys import derived_key

ALGORITHM = "HS256"
AUDIENCE = "killrvideo.refresh"


class JwtRefreshTokens:
    """Implements `RefreshTokens`. They contain no dates: a refresh token expires with its session."""

    def __init__(self, key: str) -> None:
        self._key = derived_key(key, "refresh token")
        self._jwt = jwt.PyJWT()

    def issue(self, claims: RefreshClaims) -> str:
        """Return the token for these claims. Equal claims give equal tokens."""
        body = {"sub": str(claims.user_id), "sid": claims.session_id, "gen": claims.generation, "aud": AUDIENCE}
        return self._jwt.encode(body, self._key, algorithm=ALGORITHM)

    def verify(self, token: str) -> RefreshClaims:
        """Return the claims of a token. Raise RefreshTokenInvalid unless `issue` returned exactly this token."""
        try:
            body = self._jwt.decode(token, self._key, algorithms=[ALGORITHM], audience=AUDIENCE)
            claims = RefreshClaims(UUID(body["sub"]), str(body["sid"]), int(body["gen"]))
            is_ours = self.issue(claims) == token
        except (jwt.PyJWTError, ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise RefreshTokenInvalid from None
        if not is_ours:
            raise RefreshTokenInvalid
        return claims
