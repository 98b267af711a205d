"""The gRPC server: its interceptors, and how it starts and stops."""

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf import message_factory
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from killrvideo.envoy import auth_service_pb2, auth_service_pb2_grpc
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.rpc.ext_authz_servicer import ExtAuthzServicer
from killrvideo_grpc.rpc.generic_handlers import GenericHandlers
from killrvideo_grpc.rpc.health import HealthServicer, StoreHealth
from killrvideo_grpc.rpc.interceptors.authorization import AuthorizationInterceptor, access_table
from killrvideo_grpc.rpc.interceptors.chain import InterceptorChain
from killrvideo_grpc.rpc.interceptors.concurrency_limit import ConcurrencyLimitInterceptor
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor
from killrvideo_grpc.rpc.interceptors.logging import LoggingInterceptor
from killrvideo_grpc.rpc.interceptors.metrics import MetricsInterceptor
from killrvideo_grpc.rpc.interceptors.receive import ReceiveInterceptor
from killrvideo_grpc.rpc.interceptors.tracing import TracingInterceptor
from killrvideo_grpc.rpc.interceptors.validation import ValidationInterceptor
from killrvideo_grpc.rpc.reflection import add_reflection, service_descriptors
from killrvideo_grpc.rpc.user_servicer import UserServicer
from killrvideo_grpc.security.passwords import BcryptHasher
from killrvideo_grpc.server import listener
from killrvideo_grpc.service.authentication import Authenticator
from killrvideo_grpc.service.sweeper import Sweeper

CONTRACT = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
EXT_AUTHZ = auth_service_pb2.DESCRIPTOR.services_by_name["Authorization"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

RESPONSE_SECONDS = 1.0  # after the grace period and the closing of the store, to send the remaining responses
# Calls that wait inside grpcio to be accepted; it ends further ones with CANCELLED. This absorbs a burst of 2,000, and
# more would outwait a deadline of a second.
MAX_PENDING = 2000
RECEIVE_TIMEOUT = 10.0  # seconds for a call's message to arrive; most clients send it right away
MAX_MESSAGE_BYTES = 512 << 10  # 100 of the longest tokens, for CheckTokens


def build_interceptors(
    authenticator: Authenticator,
    receive: ReceiveInterceptor,
    max_concurrent_rpcs: int,
    on_store_unavailable: Callable[[], None] = lambda: None,
    instrumentation: Instrumentation = NOOP,
) -> InterceptorChain:
    """Return the chain that every call passes through. Raise SetupError.

    Each interceptor's `runs_after` explains its place.
    """
    table = access_table([CONTRACT, EXT_AUTHZ], public=[HEALTH, *service_descriptors()])
    requests = [
        message_factory.GetMessageClass(method.input_type)()
        for service in (CONTRACT, EXT_AUTHZ)
        for method in service.methods
    ]
    return InterceptorChain(
        for_all_methods=[
            TracingInterceptor(instrumentation),
            MetricsInterceptor(instrumentation),
            LoggingInterceptor(),
        ],
        for_known_methods=[
            ErrorsInterceptor(on_store_unavailable),
            receive,
            ConcurrencyLimitInterceptor(max_concurrent_rpcs, frozenset({HEALTH.full_name})),  # before any work is done
            AuthorizationInterceptor(table, authenticator.authenticate),
            ValidationInterceptor(warm_up=requests),
        ],
    )


class UserServer:
    """The whole service on one port, which the constructor binds. Needs a running event loop. Raises SetupError.

    `receive_timeout` limits the wait for a call's message.
    """

    def __init__(
        self,
        settings: Settings,
        authenticator: Authenticator,
        servicer: UserServicer,
        store: AccountStore,
        passwords: BcryptHasher,
        instrumentation: Instrumentation,
        receive_timeout: float,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._instrumentation = instrumentation
        self._health_servicer = HealthServicer()
        self._health = StoreHealth(self._health_servicer, CONTRACT.full_name, store)
        self._sweeper = Sweeper(store, instrumentation.sweep_done)
        self._receive = ReceiveInterceptor(receive_timeout)
        limit = settings.max_concurrent_rpcs
        chain = build_interceptors(authenticator, self._receive, limit, self._health.check_soon, instrumentation)
        self._server = aio.server(interceptors=[chain], options=[*_limits(), *listener.connection_options(settings)])
        handlers: Any = GenericHandlers(self._server)  # has the two methods of a server that are called
        user_service_pb2_grpc.add_UserServiceServicer_to_server(servicer, handlers)
        auth_service_pb2_grpc.add_AuthorizationServicer_to_server(ExtAuthzServicer(authenticator), handlers)
        # Registered methods have queues of their own: health checks never wait behind other calls.
        health_pb2_grpc.add_HealthServicer_to_server(self._health_servicer, self._server)
        # Only Envoy calls Check: reflection doesn't list it.
        add_reflection(self._server, [CONTRACT.full_name, HEALTH.full_name])
        self.port = listener.bind(self._server, settings, instrumentation)

    async def start_serving(self) -> None:
        """Start to answer calls."""
        self._instrumentation.start_export()
        await self._health.start_checks()
        self._sweeper.start()
        await self._server.start()

    def report_not_serving(self) -> None:
        """Report NOT_SERVING to health checks, but go on answering calls."""
        self._health_servicer.set_not_serving()

    async def shut_down(self, grace_seconds: float) -> None:
        """Refuse new calls, give those in progress `grace_seconds`, then release the port, threads and store."""
        self.report_not_serving()
        self._health_servicer.end_watches()
        await self._receive.end_waits()
        stopping = asyncio.ensure_future(self._server.stop(grace_seconds + RESPONSE_SECONDS))
        await asyncio.wait([stopping], timeout=grace_seconds)
        await self._health.stop_checks()
        await self._sweeper.stop()
        # Close the store before the port: writes that have begun finish and are answered, waiting ones fail.
        await self._store.close()
        await stopping
        await self._passwords.close()
        await self._instrumentation.stop_export()


def _limits() -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Slightly more than the edge accepts. Between this limit and the next, grpcio refuses calls at random.
        ("grpc.max_metadata_size", 64 * 1024),
        ("grpc.absolute_max_metadata_size", 128 * 1024),
        # Equal: between these two limits, too, it refuses calls at random. By default: 1,000 and 3,000.
        ("grpc.server.max_pending_requests", MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
    ]
