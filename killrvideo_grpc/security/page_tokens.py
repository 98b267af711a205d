"""Page tokens: signed tokens with a position in a list and a digest of the list's query."""

import hashlib
from collections.abc import Sequence

from killrvideo_grpc.domain.errors import InvalidRequest, Violation
from killrvideo_grpc.security.signed_tokens import SignedTokens


class JwtPageTokens:
    """Implements `PageTokens`. The first of `keys` signs, all verify. Positions only mean something to one `store`."""

    def __init__(self, keys: Sequence[str], store: str) -> None:
        self._tokens = SignedTokens(keys, f"page token of {store}", "killrvideo.page")

    def issue(self, position: str, scope: str) -> str:
        return self._tokens.issue({"pos": position, "of": _digest(scope)}) if position else ""

    def verify(self, token: str, scope: str) -> str:
        claims = self._tokens.verify(token)
        if claims is None or claims["of"] != _digest(scope):
            raise InvalidRequest([Violation("pageToken", "was not issued for this list")])
        return str(claims["pos"])


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()[:32]
