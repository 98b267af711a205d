"""The contract's rules for texts: for addresses and names as in Register, for reasons as in SuspendUser."""

import protovalidate
from google.protobuf.message import Message
from killrvideo.user.v1.user_service_pb2 import RegisterRequest, SuspendUserRequest


def text_violations(email: str, first_name: str, last_name: str) -> dict[str, str]:
    """Return what is wrong with each of the fields `email`, `first_name` and `last_name`."""
    try:
        request = RegisterRequest(email=email, first_name=first_name, last_name=last_name)
    except ValueError:  # a lone surrogate
        return {"text": "is not valid Unicode"}
    found = _violations(request)
    found.pop("password", None)
    return found


def reason_violation(reason: str) -> str | None:
    """Return what is wrong with a reason."""
    try:
        return _violations(SuspendUserRequest(reason=reason)).get("reason")
    except ValueError:  # a lone surrogate
        return "is not valid Unicode"


def allows_email(email: str) -> bool:
    """Return whether somebody could register with this address."""
    return text_violations(email, "Ann", "Lee") == {}


def allows_name(name: str) -> bool:
    """Return whether somebody could have this first or last name."""
    return text_violations("ann@example.org", name, "Lee") == {}


def _violations(request: Message) -> dict[str, str]:
    found: dict[str, str] = {}
    for violation in protovalidate.collect_violations(request):
        field = violation.proto.field.elements[0].field_name if violation.proto.field else "text"
        found.setdefault(field, violation.proto.message.removeprefix("value "))
    return found
