"""The contract's rules for addresses and names, as Register applies them."""

import protovalidate
from killrvideo.user.v1.user_service_pb2 import RegisterRequest


class ContractRules:
    """Validates addresses and names."""

    def violations(self, email: str, first_name: str, last_name: str) -> dict[str, str]:
        """Return what is wrong with each of the fields `email`, `first_name` and `last_name`."""
        try:
            request = RegisterRequest(email=email, first_name=first_name, last_name=last_name)
        except ValueError:  # a lone surrogate
            return {"text": "is not valid Unicode"}
        found: dict[str, str] = {}
        for violation in protovalidate.collect_violations(request):
            field = violation.proto.field.elements[0].field_name if violation.proto.field else "text"
            if field != "password":
                found.setdefault(field, violation.proto.message.removeprefix("value "))
        return found

    def allows_email(self, email: str) -> bool:
        """Return whether somebody could register with this address."""
        return self.violations(email, "Ann", "Lee") == {}

    def allows_name(self, name: str) -> bool:
        """Return whether somebody could have this first or last name."""
        return self.violations("ann@example.org", name, "Lee") == {}
