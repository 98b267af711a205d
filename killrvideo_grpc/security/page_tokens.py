"""Page tokens: JSON Web Tokens with a position in a list and a digest of the list's query."""

import hashlib

import jwt

from killrvideo_grpc.domain.errors import InvalidRequest, Violation
from killrvideo_grpc.security.keys import derived_key

ALGORITHM = "HS256"
AUDIENCE = "killrvideo.page"


class JwtPageTokens:
    """Implements `PageTokens`."""

    def __init__(self, key: str) -> None:
        self._key = derived_key(key, "page token")
        self._jwt = jwt.PyJWT()

    def issue(self, position: str, scope: str) -> str:
        """Return the token for a position; empty for an empty position."""
        if not position:
            return ""
        return self._jwt.encode({"pos": position, "aud": AUDIENCE, "of": _digest(scope)}, self._key, ALGORITHM)

    def verify(self, token: str, scope: str) -> str:
        """Return the position. Raise InvalidRequest unless `issue` returned the token for this scope."""
        try:
            body = self._jwt.decode(token, self._key, algorithms=[ALGORITHM], audience=AUDIENCE)
            position = str(body["pos"])
            is_ours = self.issue(position, scope) == token
        except (jwt.PyJWTError, KeyError, RecursionError, TypeError, ValueError):
            is_ours = False
        if not is_ours:
            raise InvalidRequest([Violation("pageToken", "was not issued for this list")])
        return position


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()[:32]
