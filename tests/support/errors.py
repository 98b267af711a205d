"""Errors of failed calls, with their details."""

from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Failure:
    """What a caller sees of an error."""

    code: grpc.StatusCode
    message: str
    reason: str | None
    violations: dict[str, list[str]]
    retry_seconds: int | None
    request_id: str | None


def read_failure(error: grpc.RpcError) -> Failure:
    """Unpack status, ErrorInfo, BadRequest and RetryInfo, and check that they agree."""
    assert isinstance(error, grpc.Call)
    reason, retry_seconds = None, None
    violations: dict[str, list[str]] = {}
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "killrvideo.user.v1"
            reason = info.reason
        elif detail.Unpack(bad):
            for violation in bad.field_violations:
                violations.setdefault(violation.field, []).append(violation.description)
        elif detail.Unpack(retry):
            retry_seconds = retry.retry_delay.seconds
    metadata = dict(error.trailing_metadata() or ())
    request_id = metadata.get("x-request-id")
    return Failure(
        error.code(), str(error.details()), reason, violations, retry_seconds, str(request_id) if request_id else None
    )
