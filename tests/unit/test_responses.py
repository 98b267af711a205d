"""The error table, and the gRPC statuses and problem documents from it."""

import inspect
import json

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from killrvideo.user.v1.error_reason_pb2 import ErrorReason

from killrvideo_grpc.domain import errors
from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.errors.grpc_status import to_status
from killrvideo_grpc.errors.problem import PROBLEM, edge_problem, problem, problem_headers
from killrvideo_grpc.errors.responses import error_response
from killrvideo_grpc.errors.table import EDGE_ERRORS, INTERNAL, TABLE

MANY = errors.InvalidRequest([errors.Violation(f"userIds[{number}]", "must be a UUID " * 4) for number in range(1000)])


def status_of(error: Exception) -> status_pb2.Status:
    return to_status(error_response(error))


def test_every_domain_error_has_an_entry() -> None:
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ServiceError)}
    assert set(TABLE) == kinds - {errors.ServiceError}


def test_every_entry_has_a_grpc_code_and_a_status_with_a_title() -> None:
    for spec in (*TABLE.values(), INTERNAL):
        assert spec.code in grpc.StatusCode.__members__
        assert spec.status in EDGE_ERRORS
    assert {edge_error.code for edge_error in EDGE_ERRORS.values()} <= grpc.StatusCode.__members__.keys()


def test_every_reason_of_the_contract_is_used_once() -> None:
    reasons = [f"ERROR_REASON_{spec.reason}" for spec in TABLE.values() if spec.reason]
    assert sorted(reasons) == sorted(set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"})


@pytest.mark.parametrize("error", [ValueError("planted"), errors.ServiceError("planted"), KeyError("planted")])
def test_errors_without_an_entry_are_bugs_and_reveal_nothing(error: Exception) -> None:
    status = status_of(error)
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert status.message == "An unexpected internal server error occurred."
    assert not status.details
    assert problem(error_response(error)) == edge_problem(500)


def test_a_subclass_of_an_error_has_its_entry() -> None:
    class KeyspaceGone(errors.StoreUnavailable):
        pass

    assert status_of(KeyspaceGone("planted")) == status_of(errors.StoreUnavailable())


def test_a_missing_role_is_reported_with_all_sufficient_roles() -> None:
    assert status_of(errors.RoleRequired(Role.CREATOR)).message == (
        "User does not have required roles: ['creator', 'moderator']"
    )


def test_any_number_of_violations_fits_into_metadata() -> None:
    status = status_of(MANY)
    assert status.ByteSize() < 7000
    bad_request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad_request) for detail in status.details)
    assert bad_request.field_violations
    headers = problem_headers(error_response(MANY))
    assert sum(len(name) + len(value) for name, value in headers) < 7000
    assert len(json.loads(dict(headers)[PROBLEM])["errors"]) == 50


def test_a_problem_is_ascii_and_contains_the_errors_details() -> None:
    violation = errors.Violation("firstName", 'must be "é"\r\n')
    headers = dict(problem_headers(error_response(errors.InvalidRequest([violation]))))
    assert headers.keys() == {"x-problem", "x-problem-status"}
    assert headers["x-problem-status"] == "422"
    assert headers["x-problem"].isascii()
    assert headers["x-problem"].isprintable()
    assert json.loads(headers["x-problem"]) == {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": '1 field is invalid: firstName must be "é"\r\n',
        "code": "VALIDATION_FAILED",
        "errors": [{"field": "firstName", "description": 'must be "é"\r\n'}],
    }


@pytest.mark.parametrize(
    ("error", "challenge", "retry_after"),
    [
        (errors.NotAuthenticated(), "Bearer", None),
        (errors.InvalidCredentials(), "Bearer", None),
        (errors.UserNotFound(), None, None),
        (errors.StoreUnavailable(), None, "1"),
        (errors.Overloaded(), None, "1"),
        (errors.TooManyAttempts(7), None, "7"),
    ],
)
def test_a_problem_comes_with_the_headers_of_its_status(
    error: errors.ServiceError, challenge: str | None, retry_after: str | None
) -> None:
    headers = dict(problem_headers(error_response(error)))
    assert (headers.get("www-authenticate"), headers.get("retry-after")) == (challenge, retry_after)
