import inspect

import grpc
import pytest
from google.rpc import error_details_pb2
from killrvideo.user.v1.error_reason_pb2 import ErrorReason

from killrvideo_grpc.domain import errors
from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.rpc.status import TABLE, to_status


def test_every_domain_error_has_a_row() -> None:
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ServiceError)}
    assert set(TABLE) == kinds - {errors.ServiceError}


def test_every_reason_of_the_contract_is_used_once() -> None:
    reasons = [f"ERROR_REASON_{row.reason}" for row in TABLE.values() if row.reason]
    assert sorted(reasons) == sorted(set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"})


@pytest.mark.parametrize("error", [ValueError("planted"), errors.ServiceError("planted"), KeyError("planted")])
def test_what_is_not_in_the_table_is_a_bug_and_says_nothing(error: Exception) -> None:
    status = to_status(error)
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert status.message == "An unexpected internal server error occurred."
    assert not status.details


def test_a_kind_of_an_error_has_the_row_of_that_error() -> None:
    class Refused(errors.StoreUnavailable):
        pass

    assert to_status(Refused("planted")) == to_status(errors.StoreUnavailable())


def test_a_missing_role_names_those_that_would_do() -> None:
    assert to_status(errors.RoleRequired(Role.CREATOR)).message == (
        "User does not have required roles: ['creator', 'moderator']"
    )


def test_any_number_of_violations_fits_into_metadata() -> None:
    violations = [errors.Violation(f"userIds[{number}]", "must be a UUID " * 4) for number in range(1000)]
    status = to_status(errors.InvalidRequest(violations))
    assert status.ByteSize() < 7000
    bad_request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad_request) for detail in status.details)
    assert bad_request.field_violations
