"""Enforces the access that the contract declares: a bearer token of a live account and session, with the right role."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from structlog.contextvars import bind_contextvars

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.errors import NotAuthenticated, TokenInvalid
from killrvideo_grpc.rpc.call import Call, Next
from killrvideo_grpc.rpc.interceptors.chain import Handler
from killrvideo_grpc.service.authentication import Caller


class AccessInterceptor:
    """Checks each call against the table from `rpc/access.py`, using `authenticate` of `Authenticator`.

    Public methods ignore tokens, so a stale one does no harm. A method that is missing from the table is a bug, and
    each call to it fails with KeyError.
    """

    def __init__(
        self, table: Mapping[str, Role | None], authenticate: Callable[[str, Role], Awaitable[Caller]]
    ) -> None:
        self._table = table
        self._authenticate = authenticate

    def wrap(self, method: str, handler: Handler, proceed: Next) -> Next:
        async def checked(call: Call) -> Any:
            role = self._table[method]
            if role is not None:
                call.caller = await self._authenticate(bearer_token(call), role)
                bind_contextvars(user_id=str(call.caller.account.user_id))
            return await proceed(call)

        return checked


def bearer_token(call: Call) -> str:
    """Returns the token of `authorization: Bearer TOKEN` (RFC 6750). Raises NotAuthenticated if there is none.

    Raises TokenInvalid if there are several such headers, because servers differ in which of them they use.
    """
    headers = [value for key, value in call.metadata if key == "authorization"]
    if len(headers) > 1:
        raise TokenInvalid
    scheme, _, token = str(headers[0] if headers else "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated
    return token.strip()
