"""Bearer tokens: JSON Web Tokens (RFC 7519), signed with one shared key."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt

from killrvideo_grpc.domain.errors import TokenExpired, TokenInvalid, TokenSubjectInvalid
from killrvideo_grpc.domain.user import User

ISSUER = "killrvideo.user.v1"
AUDIENCE = "killrvideo"
REQUIRED_CLAIMS = ["exp", "iat", "nbf", "iss", "aud", "jti"]


class JwtTokens:
    """Implements `Tokens`. Tokens are good for `lifetime`, in whole seconds, and only under `algorithm` and `key`."""

    def __init__(self, key: str, algorithm: str, lifetime: timedelta) -> None:
        self._key = key
        self._algorithm = algorithm
        self._lifetime = lifetime
        self._jwt = jwt.PyJWT()

    def issue(self, user: User) -> tuple[str, datetime]:
        """Returns a token for the account, and when it stops being good (UTC)."""
        issued = datetime.now(UTC).replace(microsecond=0)
        expires = issued + self._lifetime
        claims = {
            "sub": str(user.user_id),
            "roles": sorted(user.roles),
            "exp": expires,
            "iat": issued,
            "nbf": issued,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "jti": str(uuid4()),
        }
        return self._jwt.encode(claims, self._key, algorithm=self._algorithm), expires

    def verify(self, token: str) -> UUID:
        """Returns the subject. Raises TokenExpired, TokenSubjectInvalid or TokenInvalid; none quotes the token."""
        try:
            claims = self._jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": REQUIRED_CLAIMS, "verify_sub": False},
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError):
            # PyJWT lets some through that Python raises on odd claims, like an infinite exp.
            raise TokenInvalid from None
        return _user_id(claims.get("sub"))


def _user_id(subject: object) -> UUID:
    try:
        user_id = UUID(str(subject))
    except ValueError:
        raise TokenSubjectInvalid from None
    # UUID() takes more spellings than the one that tokens are issued with.
    if str(user_id) != subject:
        raise TokenSubjectInvalid
    return user_id
