"""Page tokens: JSON Web Tokens with a position in a list and a digest of the list's query."""

import hashlib
from collections.abc import Sequence

import jwt

from killrvideo_grpc.domain.errors import InvalidRequest, Violation
from killrvideo_grpc.security.keys import derived_key

ALGORITHM = "HS256"
AUDIENCE = "killrvideo.page"


class JwtPageTokens:
    """Implements `PageTokens`. Tokens signed with `fallbacks` are accepted too."""

    def __init__(self, key: str, fallbacks: Sequence[str] = ()) -> None:
        self._keys = [derived_key(each, "page token") for each in (key, *fallbacks)]
        self._jwt = jwt.PyJWT()

    def issue(self, position: str, scope: str) -> str:
        if not position:
            return ""
        return self._signed(position, scope, self._keys[0])

    def verify(self, token: str, scope: str) -> str:
        for key in self._keys:
            try:
                body = self._jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE)
                position = str(body["pos"])
                is_ours = self._signed(position, scope, key) == token  # base64 can write the same bytes in several ways
            except (jwt.PyJWTError, KeyError, RecursionError, TypeError, ValueError):
                continue
            if is_ours:
                return position
        raise InvalidRequest([Violation("pageToken", "was not issued for this list")])

    def _signed(self, position: str, scope: str, key: bytes) -> str:
        return self._jwt.encode({"pos": position, "aud": AUDIENCE, "of": _digest(scope)}, key, ALGORITHM)


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()[:32]
