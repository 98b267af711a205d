"""Access as the contract declares it: a bearer token of a live account and session, with the right role."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar

from killrvideo.user.v1 import access_pb2
from structlog.contextvars import bind_contextvars

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.errors import NotAuthenticated, SetupError, TokenInvalid
from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor
from killrvideo_grpc.service.authentication import Principal

ROLES: Mapping[int, Role | None] = {
    access_pb2.ACCESS_PUBLIC: None,
    access_pb2.ACCESS_VIEWER: Role.VIEWER,
    access_pb2.ACCESS_CREATOR: Role.CREATOR,
    access_pb2.ACCESS_MODERATOR: Role.MODERATOR,
}


class AuthorizationInterceptor:
    """Check each call against a table made by `access_table`, with `authenticate` of `Authenticator`.

    Public methods ignore tokens. A method that is missing from the table is a bug, and its calls fail with KeyError.
    """

    runs_after: ClassVar[tuple[type, ...]] = (ErrorsInterceptor,)

    def __init__(
        self, table: Mapping[str, Role | None], authenticate: Callable[[str, Role], Awaitable[Principal]]
    ) -> None:
        self._table = table
        self._authenticate = authenticate

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        async def authorized(call: Call) -> Any:
            role = self._table[method]
            if role is not None:
                call.principal = await self._authenticate(bearer_token(call), role)
                bind_contextvars(user_id=str(call.principal.account.user_id))
            return await call_next(call)

        return authorized


def bearer_token(call: Call) -> str:
    """Return the token of `authorization: Bearer TOKEN` (RFC 6750). Raises NotAuthenticated if there is none.

    Raises TokenInvalid if there are several such headers, because servers differ in which of them they use.
    """
    headers = [value for key, value in call.metadata if key == "authorization"]
    if len(headers) > 1:
        raise TokenInvalid
    scheme, _, token = str(headers[0] if headers else "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated
    return token.strip()


# Descriptors are typed as Any, because protobuf's two implementations share no type.
def access_table(services: Iterable[Any], public: Iterable[Any]) -> dict[str, Role | None]:
    """Map each method's path (`/package.Service/Method`) to the role that it requires, or None if anyone may call it.

    Methods of `services` must declare their access. Methods of `public` (health and reflection, which are defined
    elsewhere) are open to anyone. Raises SetupError.
    """
    methods = [method for service in services for method in service.methods]
    gaps = [method.full_name for method in methods if _declared_access(method) not in ROLES]
    if gaps:
        raise SetupError(f"The contract declares no access option for: {', '.join(gaps)}")
    table: dict[str, Role | None] = {_path(method): None for service in public for method in service.methods}
    return table | {_path(method): ROLES[_declared_access(method)] for method in methods}


def _declared_access(method: Any) -> int:
    access: int = method.GetOptions().Extensions[access_pb2.access]
    return access


def _path(method: Any) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"
