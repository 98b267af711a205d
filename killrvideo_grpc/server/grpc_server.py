"""The gRPC server: its interceptors, and how it starts and stops."""

import asyncio
from collections.abc import Callable

from google.protobuf import message_factory
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc

from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.observability.setup import UNWATCHED, Telemetry
from killrvideo_grpc.rpc.access import access_table
from killrvideo_grpc.rpc.generic_handlers import GenericHandlers
from killrvideo_grpc.rpc.health import HealthServicer, StoreHealth
from killrvideo_grpc.rpc.interceptors.access import AccessInterceptor
from killrvideo_grpc.rpc.interceptors.chain import InterceptorChain
from killrvideo_grpc.rpc.interceptors.concurrency_limit import AdmissionInterceptor
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor, abort
from killrvideo_grpc.rpc.interceptors.logging import LoggingInterceptor
from killrvideo_grpc.rpc.interceptors.receive import Arrivals
from killrvideo_grpc.rpc.interceptors.validation import ValidationInterceptor
from killrvideo_grpc.rpc.reflection import add_reflection, service_descriptors
from killrvideo_grpc.rpc.user_servicer import UserServicer
from killrvideo_grpc.security.passwords import BcryptHasher
from killrvideo_grpc.server.listener import Listener
from killrvideo_grpc.service.authentication import Authenticator
from killrvideo_grpc.service.sweeper import Sweeper

CONTRACT = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

ANSWER_SECONDS = 1.0  # after the grace period and the closing of the store, to send the remaining answers
# Calls that wait inside grpcio to be accepted. It ends further ones with CANCELLED, which costs the event loop nothing.
# The limit is above a burst of 2,000 calls, and low enough that calls are answered within a second of waiting.
MAX_PENDING = 2500
ARRIVAL_SECONDS = 10.0  # a call's message must arrive within this time; most clients send it right away


def build_interceptors(
    authenticator: Authenticator,
    arrivals: Arrivals,
    max_concurrent_rpcs: int,
    on_store_trouble: Callable[[], None] = lambda: None,
    telemetry: Telemetry = UNWATCHED,
) -> InterceptorChain:
    """Returns the interceptors that every call passes through, outermost first. Raises SetupError."""
    table = access_table([CONTRACT], public=[HEALTH, *service_descriptors()])
    requests = [message_factory.GetMessageClass(method.input_type)() for method in CONTRACT.methods]
    return InterceptorChain(
        [
            *telemetry.interceptors,  # outside logging, so that the log line can contain the trace id
            LoggingInterceptor(),  # outside everything that can refuse, so that every call is logged and has an id
        ],
        [
            # Inside logging, which logs the code that it sets; outside everything that can fail.
            ErrorsInterceptor(on_store_trouble, telemetry.observer),
            AdmissionInterceptor(max_concurrent_rpcs, frozenset({HEALTH.full_name})),  # before any work is done
            AccessInterceptor(table, authenticator.authenticate),  # before validation, which would reveal shape rules
            ValidationInterceptor(arrivals, warm_up=requests),  # last, so the servicer only sees valid requests
        ],
    )


class UserServer:
    """The whole service on one port. The constructor binds the port, and `start` begins to answer calls.

    `max_concurrent_rpcs` limits the calls handled at once, and `arrival_seconds` the wait for a call's message. Must be
    created inside a running event loop. Raises SetupError.
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
                # Slightly more than the edge accepts. Between this limit and the next, grpcio refuses calls at random.
                ("grpc.max_metadata_size", 64 * 1024),
                ("grpc.absolute_max_metadata_size", 128 * 1024),
                # Equal, because between these two limits, too, it refuses calls at random. By default: 1,000 and 3,000.
                ("grpc.server.max_pending_requests", MAX_PENDING),
                ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
                *listener.options(),
            ],
        )
        user_service_pb2_grpc.add_UserServiceServicer_to_server(
            servicer,
            GenericHandlers(self._server),  # type: ignore[arg-type] # has the two methods of a server that are called
        )
        # Registered methods have queues of their own, so health checks never wait behind other calls.
        health_pb2_grpc.add_HealthServicer_to_server(self._health_servicer, self._server)
        add_reflection(self._server, [CONTRACT.full_name, HEALTH.full_name])
        self.port = listener.bind(self._server)

    async def start(self) -> None:
        """Starts to answer calls."""
        self._telemetry.start()
        await self._health.start()
        self._sweeper.start()
        await self._server.start()

    def stop_serving(self) -> None:
        """Reports NOT_SERVING to health checks, but goes on answering calls."""
        self._health_servicer.stop_serving()

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, gives those in progress `grace_seconds`, then releases the port, threads and store."""
        self.stop_serving()
        self._health_servicer.end_watches()
        await self._arrivals.stop()
        stopping = asyncio.ensure_future(self._server.stop(grace_seconds + ANSWER_SECONDS))
        await asyncio.wait([stopping], timeout=grace_seconds)
        for task in (self._health, self._sweeper):
            await task.stop()
        # Closing the store fails the calls still in progress. Writes that have begun finish, and there is still time to
        # answer them; writes that are waiting are refused. So no write takes effect after its caller saw it fail.
        await self._store.close()
        await stopping
        self._passwords.close()
        await self._telemetry.stop()
