"""What calls need: the metadata of a token, and a request to register."""

from killrvideo.envoy.auth_service_pb2 import AttributeContext, CheckRequest
from killrvideo.user.v1.user_service_pb2 import RegisterRequest

from tests.support.accounts import PASSWORD

Metadata = tuple[tuple[str, str | bytes], ...]


def bearer(token: str) -> Metadata:
    """Return the metadata for an access token."""
    return (("authorization", f"Bearer {token}"),)


def registration(email: str, **changes: str) -> RegisterRequest:
    """Return a request to register Ann Lee with PASSWORD, except for the given fields."""
    return RegisterRequest(**{"email": email, "password": PASSWORD, "first_name": "Ann", "last_name": "Lee"} | changes)


def check_request(authorization: str | None) -> CheckRequest:
    """Return the edge's request to check a request with this header."""
    headers = {} if authorization is None else {"authorization": authorization}
    http = AttributeContext.HttpRequest(headers=headers)
    return CheckRequest(attributes=AttributeContext(request=AttributeContext.Request(http=http)))
