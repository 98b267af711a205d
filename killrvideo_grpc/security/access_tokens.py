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
REMEMBERED = 8192  # tokens, of about 1 KiB each


class JwtAccessTokens:
    """Implements `AccessTokens`. Tokens are valid for `lifetime`, rounded to whole seconds.

    Only tokens signed with `algorithm` and `key` are accepted. They are valid from `clock_skew` before their `nbf` and
    `iat`, because the clock of the process that issued them may be ahead, but never after their `exp`.

    Verified tokens are cached: checking a signature takes ten times as long as a look-up in the cache.
    """

    def __init__(self, key: str, algorithm: str, lifetime: timedelta, clock_skew: timedelta) -> None:
        self._key = key
        self._algorithm = algorithm
        self._lifetime = lifetime
        self._clock_skew = clock_skew
        self._jwt = jwt.PyJWT()
        # The whole token is the cache key, and failures aren't cached, so forged tokens can't fill the cache.
        self._decode_once = lru_cache(maxsize=REMEMBERED)(self._decode)

    def issue(self, account: Account, session_id: str, latest: datetime) -> tuple[str, datetime]:
        """Returns a token for a session and its expiry (UTC): now plus the lifetime, but no later than `latest`."""
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
        """Returns the account and the session of a token. Raises TokenExpired, TokenSubjectInvalid or TokenInvalid."""
        claims, expires = self._decode_once(token)
        if expires <= datetime.now(UTC).timestamp():
            raise TokenExpired
        return claims

    def _decode(self, token: str) -> tuple[AccessClaims, float]:
        try:
            _check_spelling(token)
            claims = self._jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=self._clock_skew,  # also applies to exp, which `verify` checks again without leeway
                options={"require": REQUIRED_CLAIMS, "verify_sub": False},
            )
            expires, *_ = (_time(claims[name]) for name in ("exp", "iat", "nbf"))
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError):
            # PyJWT lets some malformed claims, such as an infinite exp, raise Python's own errors.
            raise TokenInvalid from None
        return AccessClaims(_user_id(claims.get("sub")), _session_id(claims["sid"])), expires


def _check_spelling(token: str) -> None:
    """Raises ValueError unless the token is in canonical base64url.

    Decoders ignore padding, foreign characters and surplus bits, so the same token could be spelled in many ways.
    """
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
    # UUID() also accepts other spellings, such as upper case or braces. Tokens are only issued with the canonical one.
    if str(user_id) != subject:
        raise TokenSubjectInvalid
    return user_id


def _session_id(value: Any) -> str:
    if not isinstance(value, str):
        raise TokenInvalid
    return value
