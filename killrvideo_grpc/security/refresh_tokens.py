"""Refresh tokens: JSON Web Tokens that contain a session id and a generation. They are not stored."""

from uuid import UUID

import jwt

from killrvideo_grpc.domain.errors import RefreshTokenInvalid
from killrvideo_grpc.domain.ports import RefreshClaims
from killrvideo_grpc.security.keys import derived_key

ALGORITHM = "HS256"
AUDIENCE = "killrvideo.refresh"


class JwtRefreshTokens:
    """Implements `RefreshTokens`.

    They are signed with a key derived from SECRET_KEY for this purpose only, so that no other kind of token can pass
    for one. They contain no dates: a refresh token expires with its session.
    """

    def __init__(self, key: str) -> None:
        self._key = derived_key(key, "refresh token")
        self._jwt = jwt.PyJWT()

    def issue(self, claims: RefreshClaims) -> str:
        """Returns the token for these claims. Equal claims result in equal tokens."""
        body = {"sub": str(claims.user_id), "sid": claims.session_id, "gen": claims.generation, "aud": AUDIENCE}
        return self._jwt.encode(body, self._key, algorithm=ALGORITHM)

    def verify(self, token: str) -> RefreshClaims:
        """Returns the claims of a token. Raises RefreshTokenInvalid unless `issue` returned exactly this token."""
        try:
            body = self._jwt.decode(token, self._key, algorithms=[ALGORITHM], audience=AUDIENCE)
            claims = RefreshClaims(UUID(body["sub"]), str(body["sid"]), int(body["gen"]))
            is_ours = self.issue(claims) == token
        except (jwt.PyJWTError, ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise RefreshTokenInvalid from None
        if not is_ours:
            raise RefreshTokenInvalid
        return claims
