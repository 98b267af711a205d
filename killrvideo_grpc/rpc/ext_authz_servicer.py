"""Envoy's external authorization: tells the edge who makes a request for a sibling."""

from collections.abc import Iterable

from google.rpc import code_pb2, status_pb2
from killrvideo.envoy import auth_service_pb2, auth_service_pb2_grpc
from structlog.contextvars import bind_contextvars

from killrvideo_grpc.domain.account import role_names
from killrvideo_grpc.domain.errors import ServiceError, SessionEnded, UserNotFound
from killrvideo_grpc.errors.problem import problem_headers
from killrvideo_grpc.errors.responses import ErrorResponse, error_response
from killrvideo_grpc.rpc.call import Context, current_call
from killrvideo_grpc.rpc.interceptors.authorization import parse_bearer
from killrvideo_grpc.service.authentication import Authenticator, Principal
from killrvideo_grpc.service.identity_headers import SESSION_ID, USER_ID, USER_ROLES

DENIED = (401, 403)  # with any other error, the check itself fails


class ExtAuthzServicer(auth_service_pb2_grpc.AuthorizationServicer):
    """Admits every person whom `authenticator` does, and answers others with the problem that their calls would get.

    Denials have the gRPC status OK. The log and the metrics have their reasons.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def Check(  # noqa: N802 # the RPC's name
        self, request: auth_service_pb2.CheckRequest, context: Context
    ) -> auth_service_pb2.CheckResponse:
        headers = request.attributes.request.http.headers
        try:
            token = parse_bearer(headers.get("authorization", ""))
            principal = await self._authenticator.authenticate_person(token)
        except ServiceError as error:
            # A 404 would look like the sibling's.
            response = error_response(SessionEnded() if isinstance(error, UserNotFound) else error)
            if response.spec.status not in DENIED:
                raise
            return _denied(response)
        bind_contextvars(user_id=principal.actor)
        return _admitted(principal)


def _admitted(principal: Principal) -> auth_service_pb2.CheckResponse:
    identity = (
        (USER_ID, str(principal.account.user_id)),
        (USER_ROLES, ",".join(role_names(principal.account.roles))),
        (SESSION_ID, principal.session_id),
    )
    return auth_service_pb2.CheckResponse(
        status=status_pb2.Status(code=code_pb2.OK),
        ok_response=auth_service_pb2.OkHttpResponse(headers=_headers(identity)),
    )


def _denied(response: ErrorResponse) -> auth_service_pb2.CheckResponse:
    current_call.get().reason = response.spec.reason
    bind_contextvars(denied=response.spec.reason)
    return auth_service_pb2.CheckResponse(
        status=status_pb2.Status(code=code_pb2.Code.Value(response.spec.code)),
        denied_response=auth_service_pb2.DeniedHttpResponse(
            status=auth_service_pb2.HttpStatus(code=response.spec.status),
            headers=_headers(problem_headers(response)),
        ),
    )


def _headers(pairs: Iterable[tuple[str, str]]) -> list[auth_service_pb2.HeaderValueOption]:
    return [
        auth_service_pb2.HeaderValueOption(
            header=auth_service_pb2.HeaderValue(key=key, value=value),
            append_action=auth_service_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for key, value in pairs
    ]
