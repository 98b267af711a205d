"""Access tokens: JSON Web Tokens (RFC 7519). With ES256, anyone can verify them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

import jwt
import orjson
from jwt.utils import base64url_decode

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.errors import TokenExpired, TokenInvalid, TokenSubjectInvalid
from killrvideo_grpc.domain.ports import AccessClaims
from killrvideo_grpc.security.access_keys import AccessKey

REQUIRED_CLAIMS = ["exp", "iat", "nbf", "iss", "jti", "sid"]
CACHED_TOKENS = 8192  # of about 1 KiB each
MAX_TOKEN_LENGTH = 4096  # characters, several times the length of any that is issued


class JwtAccessTokens:
    """Implements `AccessTokens`, with a cache of verified tokens.

    The first of `keys` signs, all verify. Tokens are valid for `lifetime`, in whole seconds. `clock_skew` applies to
    `nbf` and `iat`, but not to `exp`. Without an `audience`, tokens have none, and those with one are refused.
    """

    def __init__(
        self,
        keys: Sequence[AccessKey],
        algorithm: str,
        lifetime: timedelta,
        clock_skew: timedelta,
        *,
        issuer: str,
        audience: str | None,
    ) -> None:
        self._keys = keys
        self._algorithm = algorithm
        self._lifetime = lifetime
        self._clock_skew = clock_skew
        self._issuer = issuer
        self._audience = audience
        self._jwt = jwt.PyJWT()
        # Failures aren't cached: forged tokens can't fill it.
        self._decode_once = lru_cache(maxsize=CACHED_TOKENS)(self._decode)

    def issue(self, account: Account, session_id: str, latest: datetime) -> tuple[str, datetime]:
        issued = datetime.now(UTC).replace(microsecond=0)
        expires = min(issued + self._lifetime, latest.replace(microsecond=0))
        claims = {
            "sub": str(account.user_id),
            "sid": session_id,
            "roles": sorted(account.roles),
            "exp": expires,
            "iat": issued,
            "nbf": issued,
            "iss": self._issuer,
            "jti": str(uuid4()),
        }
        if self._audience is not None:
            claims["aud"] = self._audience
        key = self._keys[0]
        headers = {"kid": key.kid} if key.kid is not None else None
        return self._jwt.encode(claims, key.signing, self._algorithm, headers), expires

    def verify(self, token: str) -> AccessClaims:
        if len(token) > MAX_TOKEN_LENGTH:
            raise TokenInvalid
        claims = self._decode_once(token)
        if claims.expires_at <= datetime.now(UTC):
            raise TokenExpired
        return claims

    def _decode(self, token: str) -> AccessClaims:
        try:
            claims = self._verified(token)
            expires, *_ = (_time(claims[name]) for name in ("exp", "iat", "nbf"))
            expires_at = datetime.fromtimestamp(expires, UTC)
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, ArithmeticError, OSError, RecursionError, TypeError, ValueError):
            # Malformed claims, such as an infinite exp, can raise Python's own errors in PyJWT.
            raise TokenInvalid from None
        return AccessClaims(_user_id(claims.get("sub")), _session_id(claims["sid"]), expires_at)

    def _verified(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that one of the keys has signed. Raise PyJWTError and others."""
        kid = _key_id(token)
        for key in (each for each in self._keys if each.kid == kid):
            try:
                return self._jwt.decode(
                    token,
                    key.verifying,
                    algorithms=[self._algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=self._clock_skew,  # `verify` checks exp without it
                    options={"require": self._required_claims(), "verify_sub": False},
                )
            except jwt.InvalidSignatureError:
                continue
        raise TokenInvalid

    def _required_claims(self) -> list[str]:
        return REQUIRED_CLAIMS if self._audience is None else [*REQUIRED_CLAIMS, "aud"]


def _key_id(token: str) -> Any:
    """Return the `kid` of the header. PyJWT would decode the whole token once more."""
    header = orjson.loads(base64url_decode(token.partition(".")[0]))
    if not isinstance(header, dict):
        raise TokenInvalid
    return header.get("kid")


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
