"""The composition root: store, use cases, servicer and interceptors become a gRPC server."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from google.protobuf import message_factory
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc

from killrvideo_grpc.config import Settings
from killrvideo_grpc.domain.errors import UnusableStore
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.listening import connection_options, listen
from killrvideo_grpc.observer import UNOBSERVED, Observer
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
from killrvideo_grpc.rpc.origins import Origins
from killrvideo_grpc.rpc.reflection import add_reflection, service_descriptors
from killrvideo_grpc.rpc.user_servicer import UserServicer
from killrvideo_grpc.security.access_tokens import JwtAccessTokens
from killrvideo_grpc.security.keys import keyed_digest
from killrvideo_grpc.security.page_tokens import JwtPageTokens
from killrvideo_grpc.security.passwords import BcryptHasher
from killrvideo_grpc.security.refresh_tokens import JwtRefreshTokens
from killrvideo_grpc.service.callers import Authenticator
from killrvideo_grpc.service.directory import Directory
from killrvideo_grpc.service.moderation import Moderation
from killrvideo_grpc.service.people import People
from killrvideo_grpc.service.sessions import Lifetimes, Sessions
from killrvideo_grpc.service.sweeper import Sweeper
from killrvideo_grpc.service.throttle import Limits, Throttle
from killrvideo_grpc.stores.sqlite import SqliteStore
from killrvideo_grpc.telemetry import UNWATCHED, Telemetry

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api import DataApi

CONTRACT = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

ANSWER_SECONDS = 1.0  # after the grace period, for the answers to calls that lost the store
ARRIVAL_SECONDS = 10.0  # from the start of a call to its message; most clients send both at once


@dataclass(frozen=True, slots=True)
class UseCases:
    """Everything that the RPCs call, and the threads behind it."""

    authenticator: Authenticator
    people: People
    sessions: Sessions
    directory: Directory
    moderation: Moderation
    passwords: BcryptHasher


async def open_store(settings: Settings, observer: Observer = UNOBSERVED) -> AccountStore:
    """Opens the store that the settings name, ready for use.

    Raises UnusableStore, and StoreUnavailable where waiting may help.
    """
    if settings.store == "sqlite":
        return SqliteStore(settings.sqlite_path, observer)
    # Imported here, because importing astrapy takes a quarter of the time to start.
    from killrvideo_grpc.stores import astra_schema
    from killrvideo_grpc.stores.astra import AstraStore

    async with AsyncExitStack() as stack:
        api = open_data_api(settings, observer)
        stack.push_async_callback(api.close)
        missing = [difference.text for difference in await astra_schema.check(api)]
        if missing:
            text = f"keyspace {settings.astra_db_keyspace} lacks {'; '.join(missing)}"
            raise UnusableStore(f"{text}. Create what is missing with: killrvideo-grpc schema create")
        stack.pop_all()  # nothing failed: the store closes it
        return AstraStore(api)


def open_data_api(settings: Settings, observer: Observer = UNOBSERVED) -> "DataApi":
    """Returns a client of the Data API that the settings name. Nothing is sent yet."""
    from killrvideo_grpc.stores.data_api import Connection, DataApi

    token, password = settings.astra_db_application_token, settings.astra_db_password
    connection = Connection(
        endpoint=settings.astra_db_api_endpoint or "",
        keyspace=settings.astra_db_keyspace,
        environment=settings.astra_db_environment,
        token=token.get_secret_value() if token else None,
        username=settings.astra_db_username,
        password=password.get_secret_value() if password else None,
        max_wait=settings.astra_db_timeout_seconds,
    )
    return DataApi(connection, observer)


def build_use_cases(
    settings: Settings,
    store: AccountStore,
    passwords: BcryptHasher | None = None,
    observer: Observer = UNOBSERVED,
) -> UseCases:
    """Builds the use cases. Raises UnusableKey."""
    key = settings.signing_key()
    access_tokens = JwtAccessTokens(
        key,
        settings.algorithm,
        timedelta(minutes=settings.access_token_expire_minutes),
        timedelta(seconds=settings.clock_skew_seconds),
    )
    lifetimes = Lifetimes(
        idle=timedelta(days=settings.refresh_token_expire_days), total=timedelta(days=settings.session_max_days)
    )
    threads = _cores()
    passwords = passwords or BcryptHasher(settings.bcrypt_rounds, threads, observer)
    throttle = Throttle(store, keyed_digest(key, "throttle"), _limits(settings), threads, observer.waits_for_hash)
    sessions = Sessions(store, access_tokens, JwtRefreshTokens(key), lifetimes, throttle)
    page_tokens = JwtPageTokens(key)
    return UseCases(
        Authenticator(store, access_tokens),
        People(store, passwords, sessions, throttle),
        sessions,
        Directory(store, page_tokens),
        Moderation(store, page_tokens),
        passwords,
    )


def build_interceptors(
    use_cases: UseCases,
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
            AccessInterceptor(
                table, use_cases.authenticator.authenticate
            ),  # before validation: strangers learn no shapes
            ValidationInterceptor(arrivals, warm_up=requests),  # last: the servicer sees only what the contract allows
        ],
    )


class UserServer:
    """The whole service on one port. It holds the port from the start; `start` answers calls, `stop` ends in order.

    Must be created inside a running event loop. Raises CannotListen, and what `build_use_cases` raises.
    """

    def __init__(
        self,
        settings: Settings,
        store: AccountStore,
        arrival_seconds: float = ARRIVAL_SECONDS,
        telemetry: Telemetry = UNWATCHED,
    ) -> None:
        self._settings = settings
        self._store = store
        self._telemetry = telemetry
        self._use_cases = build_use_cases(settings, store, observer=telemetry.observer)
        self._health_servicer = HealthServicer()
        self._health = StoreHealth(self._health_servicer, CONTRACT.full_name, store)
        self._sweeper = Sweeper(store, telemetry.observer.swept)
        self._arrivals = Arrivals(arrival_seconds, abort)
        chain = build_interceptors(
            self._use_cases, self._arrivals, settings.max_concurrent_rpcs, self._health.look_soon, telemetry
        )
        self._server = aio.server(
            interceptors=[chain],
            options=[
                # As much as the edge accepts; above the soft limit grpcio refuses at random.
                ("grpc.max_metadata_size", 64 * 1024),
                ("grpc.absolute_max_metadata_size", 128 * 1024),
                *connection_options(settings),
            ],
        )
        user_service_pb2_grpc.add_UserServiceServicer_to_server(
            UserServicer(
                self._use_cases.people,
                self._use_cases.sessions,
                self._use_cases.directory,
                self._use_cases.moderation,
                Origins(settings.trusted_proxies),
            ),
            GenericHandlers(self._server),  # type: ignore[arg-type] # stands in for a server
        )
        # Health is registered, so that its calls never queue behind others.
        health_pb2_grpc.add_HealthServicer_to_server(self._health_servicer, self._server)
        add_reflection(self._server, [CONTRACT.full_name, HEALTH.full_name])
        self.port = listen(self._server, settings)

    @classmethod
    async def started(
        cls,
        settings: Settings,
        store: AccountStore,
        arrival_seconds: float = ARRIVAL_SECONDS,
        telemetry: Telemetry = UNWATCHED,
    ) -> "UserServer":
        """Returns a server that answers. It closes the store in the end, or if it can't be created."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            server = cls(settings, store, arrival_seconds, telemetry)
            await server.start()
            stack.pop_all()
            return server

    async def start(self) -> None:
        """Starts to answer."""
        self._telemetry.start(self._settings)
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
        self._use_cases.passwords.close()
        await self._telemetry.stop()


def _limits(settings: Settings) -> Limits:
    return Limits(
        account_and_source=settings.max_failures_per_account_and_source,
        source=settings.max_failures_per_source,
        account=settings.max_failures_per_account,
        registrations=settings.max_registrations_per_source,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
