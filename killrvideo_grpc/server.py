"""The gRPC server: what every call passes through, and how the server starts and stops."""

import asyncio
from collections.abc import Callable

from google.protobuf import message_factory
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc

from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.listening import Listener
from killrvideo_grpc.rpc.access import access_table
from killrvideo_grpc.rpc.arrivals import Arrivals
from killrvideo_grpc.rpc.generic_handlers import GenericHandlers
from killrvideo_grpc.rpc.health import HealthServicer, StoreHealth
from killrvideo_grpc.rpc.interceptors.access import AccessInterceptor
from killrvideo_grpc.rpc.interceptors.admission import AdmissionInterceptor
from killrvideo_grpc.rpc.interceptors.chain import InterceptorChain
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor, abort
from killrvideo_grpc.rpc.interceptors.logging import LoggingInterceptor
from killrvideo_grpc.rpc.interceptors.validation import ValidationInterceptor
from killrvideo_grpc.rpc.reflection import add_reflection, service_descriptors
from killrvideo_grpc.rpc.user_servicer import UserServicer
from killrvideo_grpc.security.passwords import BcryptHasher
from killrvideo_grpc.service.callers import Authenticator
from killrvideo_grpc.service.sweeper import Sweeper
from killrvideo_grpc.telemetry import UNWATCHED, Telemetry

CONTRACT = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

ANSWER_SECONDS = 1.0  # after the grace period, for the answers to calls that lost the store
ARRIVAL_SECONDS = 10.0  # from the start of a call to its message; most clients send both at once


def build_interceptors(
    authenticator: Authenticator,
    arrivals: Arrivals,
    max_concurrent_rpcs: int,
    on_store_trouble: Callable[[], None] = lambda: None,
    telemetry: Telemetry = UNWATCHED,
) -> InterceptorChain:
    """Lists what every call passes through, outermost first. Raises UndeclaredAccess."""
    table = access_table([CONTRACT], public=[HEALTH, *service_descriptors()])
    requests = [message_factory.GetMessageClass(method.input_type)() for method in CONTRACT.methods]
    return InterceptorChain(
        [
            *telemetry.interceptors,  # around logging, whose line has the trace's id
            LoggingInterceptor(),  # around all that decides: every call has its line and its id, however it ends
        ],
        [
            # Inside logging, which reads the code; around all that can fail.
            ErrorsInterceptor(on_store_trouble, telemetry.observer),
            AdmissionInterceptor(max_concurrent_rpcs, frozenset({HEALTH.full_name})),  # before any work
            AccessInterceptor(table, authenticator.authenticate),  # before validation: strangers learn no shapes
            ValidationInterceptor(arrivals, warm_up=requests),  # last: the servicer sees only what the contract allows
        ],
    )


class UserServer:
    """The whole service on one port. It holds the port from the start; `start` answers calls, `stop` ends in order.

    `max_concurrent_rpcs` limits the calls that work at once, `arrival_seconds` the wait for a call's message. Must be
    created inside a running event loop. Raises UndeclaredAccess and CannotListen.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        servicer: UserServicer,
        store: AccountStore,
        passwords: BcryptHasher,
        listener: Listener,
        telemetry: Telemetry,
        *,
        max_concurrent_rpcs: int,
        arrival_seconds: float,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._telemetry = telemetry
        self._health_servicer = HealthServicer()
        self._health = StoreHealth(self._health_servicer, CONTRACT.full_name, store)
        self._sweeper = Sweeper(store, telemetry.observer.swept)
        self._arrivals = Arrivals(arrival_seconds, abort)
        chain = build_interceptors(
            authenticator, self._arrivals, max_concurrent_rpcs, self._health.look_soon, telemetry
        )
        self._server = aio.server(
            interceptors=[chain],
            options=[
                # As much as the edge accepts; above the soft limit grpcio refuses at random.
                ("grpc.max_metadata_size", 64 * 1024),
                ("grpc.absolute_max_metadata_size", 128 * 1024),
                *listener.options(),
            ],
        )
        user_service_pb2_grpc.add_UserServiceServicer_to_server(
            servicer,
            GenericHandlers(self._server),  # type: ignore[arg-type] # stands in for a server
        )
        # Health is registered, so that its calls never queue behind others.
        health_pb2_grpc.add_HealthServicer_to_server(self._health_servicer, self._server)
        add_reflection(self._server, [CONTRACT.full_name, HEALTH.full_name])
        self.port = listener.bind(self._server)

    async def start(self) -> None:
        """Starts to answer."""
        self._telemetry.start()
        await self._health.start()
        self._sweeper.start()
        await self._server.start()

    def stop_serving(self) -> None:
        """Says NOT_SERVING to whoever asks for health, and goes on answering."""
        self._health_servicer.stop_serving()

    async def stop(self, grace_seconds: float) -> None:
        """Accepts no new calls, gives those under way their time, and releases port, threads and store."""
        self.stop_serving()
        self._health_servicer.end_watches()
        await self._arrivals.stop()
        stopping = asyncio.ensure_future(self._server.stop(grace_seconds + ANSWER_SECONDS))
        await asyncio.wait([stopping], timeout=grace_seconds)
        for task in (self._health, self._sweeper):
            await task.stop()
        # Calls that are still under way now lose the store. A write that has begun is finished, and there is still time
        # to answer it; one that waits is refused. So none is done whose caller has been told otherwise.
        await self._store.close()
        await stopping
        self._passwords.close()
        await self._telemetry.stop()
