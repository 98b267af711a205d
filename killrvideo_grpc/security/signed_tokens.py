"""Tokens that only this service reads: JSON Web Tokens without dates."""

from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from killrvideo_grpc.security.keys import derived_key

ALGORITHM = "HS256"


class SignedTokens:
    """Tokens for one purpose, signed with keys derived for it. The first of `keys` signs, all verify."""

    def __init__(self, keys: Sequence[str], purpose: str, audience: str) -> None:
        self._keys = [derived_key(key, purpose) for key in keys]
        self._audience = audience
        self._jwt = jwt.PyJWT()

    def issue(self, claims: Mapping[str, Any]) -> str:
        """Return the token with these claims: the same in every process."""
        return self._signed({**claims, "aud": self._audience}, self._keys[0])

    def verify(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of a token, or None unless it is exactly one that was issued."""
        for key in self._keys:
            try:
                claims = self._jwt.decode(token, key, algorithms=[ALGORITHM], audience=self._audience)
                is_ours = self._signed(claims, key) == token  # base64 can write the same bytes in several ways
            except (jwt.PyJWTError, RecursionError, TypeError, ValueError):
                continue
            if is_ours:
                return claims
        return None

    def _signed(self, claims: dict[str, Any], key: bytes) -> str:
        return self._jwt.encode(claims, key, ALGORITHM)
