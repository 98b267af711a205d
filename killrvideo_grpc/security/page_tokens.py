"""Page tokens: JSON Web Tokens that name a position in a list, and the list itself by a digest."""

import hashlib

import jwt

from killrvideo_grpc.domain.errors import InvalidRequest, Violation
from killrvideo_grpc.security.keys import derived_key

ALGORITHM = "HS256"
AUDIENCE = "killrvideo.page"


class JwtPageTokens:
    """Implements `PageTokens`. The key is derived from SECRET_KEY for this purpose alone."""

    def __init__(self, key: str) -> None:
        self._key = derived_key(key, "page token")
        self._jwt = jwt.PyJWT()

    def issue(self, position: str, scope: str) -> str:
        """Returns the token of a position; empty for an empty one."""
        if not position:
            return ""
        return self._jwt.encode({"pos": position, "aud": AUDIENCE, "of": _digest(scope)}, self._key, ALGORITHM)

    def verify(self, token: str, scope: str) -> str:
        """Returns the position. Raises InvalidRequest for anything but a token that `issue` made for this scope."""
        try:
            body = self._jwt.decode(token, self._key, algorithms=[ALGORITHM], audience=AUDIENCE)
            position = str(body["pos"])
            is_ours = self.issue(position, scope) == token
        except (jwt.PyJWTError, KeyError, RecursionError, TypeError, ValueError):
            is_ours = False
        if not is_ours:
            raise InvalidRequest([Violation("pageToken", "is not the token of a next page of this list")])
        return position


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()[:32]
