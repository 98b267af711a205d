"""Access tokens: JSON Web Tokens (RFC 7519), signed with one shared key."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import jwt
from jwt.utils import base64url_decode, base64url_encode

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.errors import TokenExpired, TokenInvalid, TokenSubjectInvalid
from killrvideo_grpc.domain.ports import AccessClaims

ISSUER = "killrvideo.user.v1"
AUDIENCE = "killrvideo"
REQUIRED_CLAIMS = ["exp", "iat", "nbf", "iss", "aud", "jti", "sid"]
CACHED_TOKENS = 8192  # of about 1 KiB each


class JwtAccessTokens:
    """Implements `AccessTokens`, with a cache of verified tokens.

    Tokens are valid for `lifetime`, in whole seconds. `clock_skew` applies to `nbf` and `iat`, but not to `exp`.
    """

    def __init__(self, key: str, algorithm: str, lifetime: timedelta, clock_skew: timedelta) -> None:
        self._key = key
        self._algorithm = algorithm
        self._lifetime = lifetime
        self._clock_skew = clock_skew
        self._jwt = jwt.PyJWT()
        # Failures aren't cached, so forged tokens can't fill the cache.
        self._decode_once = lru_cache(maxsize=CACHED_TOKENS)(self._decode)

    def issue(self, account: Account, session_id: str, latest: datetime) -> tuple[str, datetime]:
        """Return a token for a session and its expiry (UTC), which is at most `latest`."""
        issued = datetime.now(UTC).replace(microsecond=0)
        expires = min(issued + self._lifetime, latest.replace(microsecond=0))
        claims = {
            "sub": str(account.user_id),
            "sid": session_id,
            "roles": sorted(account.roles),
            "exp": expires,
            "iat": issued,
            "nbf": issued,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "jti": str(uuid4()),
        }
        return self._jwt.encode(claims, self._key, algorithm=self._algorithm), expires

    def verify(self, token: str) -> AccessClaims:
        """Return the account and the session of a token. Raise TokenExpired, TokenSubjectInvalid or TokenInvalid."""
        claims, expires = self._decode_once(token)
        if expires <= datetime.now(UTC).timestamp():
            raise TokenExpired
        return claims

    def _decode(self, token: str) -> tuple[AccessClaims, float]:
        try:
            _check_canonical(token)
            claims = self._jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=self._clock_skew,  # `verify` checks exp without it
                options={"require": REQUIRED_CLAIMS, "verify_sub": False},
            )
            expires, *_ = (_time(claims[name]) for name in ("exp", "iat", "nbf"))
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError):
            # Malformed claims, such as an infinite exp, can raise Python's own errors in PyJWT.
            raise TokenInvalid from None
        return AccessClaims(_user_id(claims.get("sub")), _session_id(claims["sid"])), expires


def _check_canonical(token: str) -> None:
    """Raise ValueError unless the token is in canonical base64url, so that it has only one spelling."""
    for segment in token.encode("ascii").split(b"."):
        if base64url_encode(base64url_decode(segment)) != segment:
            raise ValueError


def _time(value: Any) -> float:
    if type(value) not in {int, float}:  # PyJWT also accepts strings and booleans
        raise TokenInvalid
    return float(value)


def _user_id(subject: Any) -> UUID:
    try:
        user_id = UUID(str(subject))
    except ValueError:
        raise TokenSubjectInvalid from None
    if str(user_id) != subject:  # UUID() also accepts upper case and braces
        raise TokenSubjectInvalid
    return user_id


def _session_id(value: Any) -> str:
    if not isinstance(value, str):
        raise TokenInvalid
    return value
