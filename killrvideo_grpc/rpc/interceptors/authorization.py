"""Access as the contract declares it: a token of a live account with the role, or of a service with the grant."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

from killrvideo.user.v1 import access_pb2
from structlog.contextvars import bind_contextvars

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.errors import NotAuthenticated, SetupError, TokenInvalid
from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.rpc.call import Call, CallNext
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor
from killrvideo_grpc.service.authentication import AccessRule, Principal
from killrvideo_grpc.service.service_authentication import ServicePrincipal

ROLES: Mapping[int, Role | None] = {
    access_pb2.ACCESS_VIEWER: Role.VIEWER,
    access_pb2.ACCESS_CREATOR: Role.CREATOR,
    access_pb2.ACCESS_MODERATOR: Role.MODERATOR,
    access_pb2.ACCESS_SERVICE: None,
}
GRANTS: Mapping[int, Grant | None] = {
    access_pb2.GRANT_UNSPECIFIED: None,
    access_pb2.GRANT_READ_PROFILES: Grant.READ_PROFILES,
    access_pb2.GRANT_CHECK_TOKENS: Grant.CHECK_TOKENS,
    access_pb2.GRANT_RESET_PASSWORDS: Grant.RESET_PASSWORDS,
}
AccessTable: TypeAlias = Mapping[str, AccessRule | None]


class AuthorizationInterceptor:
    """Check each call against a table made by `access_table`, with `authenticate` of `Authenticator`.

    Public methods ignore tokens. A method that is missing from the table is a bug, and its calls fail with KeyError.
    """

    runs_after: ClassVar[tuple[type, ...]] = (ErrorsInterceptor,)

    def __init__(
        self,
        table: AccessTable,
        authenticate: Callable[[str, AccessRule], Awaitable[Principal | ServicePrincipal]],
    ) -> None:
        self._table = table
        self._authenticate = authenticate

    def wrap(self, method: str, handler: Handler, call_next: CallNext) -> CallNext:
        async def authorized(call: Call) -> Any:
            rule = self._table[method]
            if rule is not None:
                call.principal = principal = await self._authenticate(bearer_token(call), rule)
                if isinstance(principal, ServicePrincipal):
                    bind_contextvars(actor=principal.actor)
                else:
                    bind_contextvars(user_id=principal.actor)
            return await call_next(call)

        return authorized


def bearer_token(call: Call) -> str:
    """Return the token of the call's authorization header. Raise NotAuthenticated if there is none.

    Raise TokenInvalid if there are several such headers: servers differ in which one they use.
    """
    headers = [value for key, value in call.metadata if key == "authorization"]
    if len(headers) > 1:
        raise TokenInvalid
    return parse_bearer(str(headers[0] if headers else ""))


def parse_bearer(authorization: str) -> str:
    """Return the token of `Bearer TOKEN` (RFC 6750). Raise NotAuthenticated if there is none."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated
    return token.strip()


# Any: the descriptors of protobuf's two implementations share no type.
def access_table(services: Iterable[Any], public: Iterable[Any]) -> dict[str, AccessRule | None]:
    """Map each method's path (`/package.Service/Method`) to the rule of its access, or None if anyone may call it.

    Methods of `services` must declare their access. Methods of `public` (health and reflection, which are defined
    elsewhere) are open to anyone. Raise SetupError.
    """
    table: dict[str, AccessRule | None] = {_path(method): None for service in public for method in service.methods}
    gaps = []
    for method in (method for service in services for method in service.methods):
        try:
            table[_path(method)] = _declared_rule(method)
        except LookupError:
            gaps.append(method.full_name)
    if gaps:
        raise SetupError(f"The contract declares no usable access and grant for: {', '.join(gaps)}")
    return table


def _declared_rule(method: Any) -> AccessRule | None:
    """Return the rule of the method's options. Raise LookupError if they declare none, or contradict each other."""
    options = method.GetOptions().Extensions
    access, grant = options[access_pb2.access], GRANTS[options[access_pb2.grant]]
    if access == access_pb2.ACCESS_PUBLIC and grant is None:
        return None
    rule = AccessRule(ROLES[access], grant)
    if rule.role is None and rule.grant is None:
        raise LookupError
    return rule


def _path(method: Any) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"
