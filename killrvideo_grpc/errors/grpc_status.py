"""Error responses in gRPC's form: a `google.rpc.Status` with typed details."""

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from killrvideo.user.v1.error_reason_pb2 import ErrorReason

from killrvideo_grpc.errors.responses import ErrorResponse

DOMAIN = "killrvideo.user.v1"


def to_status(response: ErrorResponse) -> status_pb2.Status:
    """Return the status of a response, with ErrorInfo, RetryInfo and BadRequest details as far as they apply."""
    status = status_pb2.Status(code=code_pb2.Code.Value(response.spec.code), message=response.message)
    if response.spec.reason is not None:
        # Raises ValueError if the contract lacks the reason.
        ErrorReason.Value(f"ERROR_REASON_{response.spec.reason}")
        status.details.append(_packed(error_details_pb2.ErrorInfo(reason=response.spec.reason, domain=DOMAIN)))
    if response.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = response.retry_seconds
        status.details.append(_packed(retry))
    if response.violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in response.violations:
            bad_request.field_violations.add(field=violation.field, description=violation.description)
        status.details.append(_packed(bad_request))
    return status


def _packed(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
