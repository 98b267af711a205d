"""Who may ask: a user and a password in the form that astrapy sends them, or a token."""

import base64
import hmac

from tests.support.data_api.refusals import Refusal


class Credentials:
    """The one token that is accepted in the header `Token`."""

    def __init__(self, *, username: str, password: str, token: str | None = None) -> None:
        self.token = token or f"Cassandra:{_encoded(username)}:{_encoded(password)}"

    def check(self, given: str | None) -> None:
        """Raises Refusal, at HTTP 401."""
        if not given:
            raise Refusal("SECURITY", "MISSING_AUTHENTICATION_TOKEN", "no token")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Refusal("SECURITY", "UNAUTHENTICATED_REQUEST", "a wrong token")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
