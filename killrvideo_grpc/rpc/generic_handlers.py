"""Methods of a service as generic handlers of a server. grpc.aio serves these faster than registered ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from grpc import aio


class GenericHandlers:
    """Stand-in for `server` in calls of the generated `add_…_to_server` functions.

    grpc.aio waits for each registered method separately, and renews all these waits for every call: a sixth of the
    instructions of a GetMe. Generic handlers share one wait.
    """

    def __init__(self, server: aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Do nothing: the generated code adds the same handlers as generic ones."""
