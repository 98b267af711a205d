"""The contract's rules for texts, as the RPCs apply them."""

import protovalidate
from google.protobuf.message import Message
from killrvideo.user.v1.user_service_pb2 import RegisterRequest, SuspendUserRequest


class ContractRules:
    """Validates addresses and names, as Register does, and reasons, as SuspendUser does."""

    def violations(self, email: str, first_name: str, last_name: str) -> dict[str, str]:
        """Return what is wrong with each of the fields `email`, `first_name` and `last_name`."""
        try:
            request = RegisterRequest(email=email, first_name=first_name, last_name=last_name)
        except ValueError:  # a lone surrogate
            return {"text": "is not valid Unicode"}
        found = self._violations(request)
        found.pop("password", None)
        return found

    def reason_violation(self, reason: str) -> str | None:
        """Return what is wrong with a reason."""
        try:
            return self._violations(SuspendUserRequest(reason=reason)).get("reason")
        except ValueError:  # a lone surrogate
            return "is not valid Unicode"

    def allows_email(self, email: str) -> bool:
        """Return whether somebody could register with this address."""
        return self.violations(email, "Ann", "Lee") == {}

    def allows_name(self, name: str) -> bool:
        """Return whether somebody could have this first or last name."""
        return self.violations("ann@example.org", name, "Lee") == {}

    def _violations(self, request: Message) -> dict[str, str]:
        found: dict[str, str] = {}
        for violation in protovalidate.collect_violations(request):
            field = violation.proto.field.elements[0].field_name if violation.proto.field else "text"
            found.setdefault(field, violation.proto.message.removeprefix("value "))
        return found
