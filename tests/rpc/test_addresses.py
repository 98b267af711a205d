"""The contract's rule for e-mail addresses, which applies to them as typed, and their normal form, which is stored."""

import sys
import unicodedata

from killrvideo.user.v1 import user_service_pb2
from protovalidate import Validator

from killrvideo_grpc.domain.account import normal_email


def test_the_normal_form_of_a_valid_address_is_valid() -> None:
    """So the contract can validate addresses as typed."""
    validator = Validator()

    def taken(address: str) -> bool:
        request = user_service_pb2.ChangeEmailRequest(password="secret", new_email=address)
        return not validator.collect_violations(request)

    codes = [*range(0x3100), *range(0x3100, sys.maxunicode, 151), *range(0xF900, 0x10000)]
    letters = [chr(code) for code in codes if unicodedata.category(chr(code))[0] in "LMNPSZ"]
    addresses = [f"a{letter}@x{letter}.org" for letter in letters]
    changed = [address for address in addresses if address != normal_email(address) and taken(address)]
    assert len(changed) > 1000
    assert [address for address in changed if not taken(normal_email(address))] == []
