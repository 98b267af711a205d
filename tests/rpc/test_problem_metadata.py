"""Errors for the edge, which requests a problem document in the trailing metadata."""

import json
from typing import Any

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import BatchGetUsersRequest, GetMeRequest

from tests.rpc.conftest import Account, Stub
from tests.support.calls import Metadata

WANTED: Metadata = (("x-problem-wanted", "true"),)


def trailing(call: Any, request: Any, metadata: Metadata) -> dict[str, Any]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, metadata=metadata, timeout=10)
    assert isinstance(caught.value, grpc.Call)
    return dict(caught.value.trailing_metadata() or ())


def test_a_requested_problem_replaces_the_error_details(grpc_stub: Stub) -> None:
    metadata = trailing(grpc_stub.GetMe, GetMeRequest(), (*WANTED, ("x-request-id", "mine")))
    assert json.loads(metadata.pop("x-problem")) == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Not authenticated",
        "code": "NOT_AUTHENTICATED",
    }
    assert metadata == {"x-problem-status": "401", "www-authenticate": "Bearer", "x-request-id": "mine"}


def test_a_problem_is_only_sent_on_request(grpc_stub: Stub) -> None:
    metadata = trailing(grpc_stub.GetMe, GetMeRequest(), (("x-problem", "{}"),))
    assert metadata.keys() == {"grpc-status-details-bin", "x-request-id"}


def test_many_violations_fit_into_what_a_python_client_takes(grpc_stub: Stub, account: Account) -> None:
    request = BatchGetUsersRequest(user_ids=["x" * 1000] * 100)
    metadata = trailing(grpc_stub.BatchGetUsers, request, (*WANTED, *account.metadata))
    assert len(json.loads(metadata["x-problem"])["errors"]) == 50
