"""The composition root: store, service, servicer and interceptors become a gRPC server."""

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from killrvideo.user.v1 import user_service_pb2, user_service_pb2_grpc

from killrvideo_grpc.config import Settings, signing_key
from killrvideo_grpc.domain.errors import UnusableStore
from killrvideo_grpc.domain.ports import PasswordHasher, UserStore
from killrvideo_grpc.health import StoreHealth
from killrvideo_grpc.rpc.access import access_table
from killrvideo_grpc.rpc.arrivals import Arrivals
from killrvideo_grpc.rpc.interceptors.access import AccessInterceptor
from killrvideo_grpc.rpc.interceptors.errors import ErrorsInterceptor
from killrvideo_grpc.rpc.interceptors.logging import LoggingInterceptor
from killrvideo_grpc.rpc.interceptors.pools import BoundedPool, PoolsInterceptor
from killrvideo_grpc.rpc.interceptors.validation import ValidationInterceptor
from killrvideo_grpc.rpc.reflection import add_reflection, service_descriptors
from killrvideo_grpc.rpc.user_servicer import UserServicer
from killrvideo_grpc.security.passwords import BcryptHasher
from killrvideo_grpc.security.tokens import JwtTokens
from killrvideo_grpc.service import UserService
from killrvideo_grpc.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api import DataApi

CONTRACT = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
HASHING = (f"/{CONTRACT.full_name}/Register", f"/{CONTRACT.full_name}/Login")

HEALTH_CHECK = f"/{HEALTH.full_name}/Check"

CALL_THREADS = 64  # they mostly wait for the store; idle ones are never started
MAX_WAITING_CALLS = 1024
HASHING_THREADS = 32  # of which as many hash at once as there are cores; the others wait for the store or their turn
MAX_WAITING_HASHES = 256  # at the default cost, what two cores hash in half a minute
HEALTH_THREADS = 64  # far more than answers take: a caller who is slow with the message must not look like a death
REFLECTION_THREADS = 4
ARRIVAL_SECONDS = 10.0  # from the start of a call to its message; most clients send both at once


class CannotListen(Exception):
    """The address can't be served. The text says which, and what to do."""


def open_store(settings: Settings) -> UserStore:
    """Opens the store that the settings name, ready for use.

    Raises UnusableStore, and StoreUnavailable where waiting may help.
    """
    if settings.store == "sqlite":
        return SqliteStore(settings.sqlite_path)
    # Imported where needed: astrapy takes a quarter of the start-up, which SQLite's users need not wait for.
    from killrvideo_grpc.stores import astra_schema
    from killrvideo_grpc.stores.astra import AstraStore

    api = open_data_api(settings)
    lacking = [difference.text for difference in astra_schema.check(api)]
    if lacking:
        text = f"keyspace {settings.astra_db_keyspace} lacks {'; '.join(lacking)}"
        raise UnusableStore(f"{text}. Make what is missing with: killrvideo-grpc schema create")
    return AstraStore(api)


def open_data_api(settings: Settings) -> "DataApi":
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
    return DataApi(connection)


def build_service(settings: Settings, store: UserStore, passwords: PasswordHasher | None = None) -> UserService:
    """Builds the use cases. Raises ConfigurationError when there is no usable signing key."""
    lifetime = timedelta(minutes=settings.access_token_expire_minutes)
    tokens = JwtTokens(signing_key(settings), settings.algorithm, lifetime)
    return UserService(store, passwords or BcryptHasher(settings.bcrypt_rounds, _cores()), tokens)


def build_interceptors(
    service: UserService, arrivals: Arrivals, on_store_trouble: Callable[[], None] = lambda: None
) -> list[grpc.ServerInterceptor]:
    """Lists what every call passes through, outermost first. Raises UndeclaredAccess."""
    table = access_table([CONTRACT], public=[HEALTH, *service_descriptors()])
    calls = BoundedPool("calls", CALL_THREADS, MAX_WAITING_CALLS)
    hashing = BoundedPool("hashing", HASHING_THREADS, MAX_WAITING_HASHES, low_priority=True)
    # Whether the process lives must not depend on how long other calls wait.
    pools = dict.fromkeys(HASHING, hashing) | {HEALTH_CHECK: BoundedPool("health", HEALTH_THREADS, MAX_WAITING_CALLS)}
    requests = [user_service_pb2.RegisterRequest(), user_service_pb2.LoginRequest(), user_service_pb2.UpdateMeRequest()]
    return [
        LoggingInterceptor(),  # first: every call has its line and its id, however it ends
        ErrorsInterceptor(on_store_trouble),  # inside logging, which reads the code; around all that can fail
        PoolsInterceptor(calls, pools),  # a refusal is logged and answered like any error
        AccessInterceptor(table, service.authenticate),  # before validation: a stranger learns no shapes
        ValidationInterceptor(arrivals, warm_up=requests),  # last: the servicer sees nothing that breaks the contract
    ]


class UserServer:
    """The whole service on one port. It holds the port from the start; `start` answers calls, `stop` ends in order.

    Raises CannotListen when the port is taken or the host is none of this machine's, and what `build_service` does.
    """

    def __init__(self, settings: Settings, store: UserStore, arrival_seconds: float = ARRIVAL_SECONDS) -> None:
        service = build_service(settings, store)
        self._store = store
        arrivals = Arrivals(arrival_seconds)
        health_servicer = health.HealthServicer()
        self._health = StoreHealth(health_servicer, CONTRACT.full_name, store)
        self._server = grpc.server(
            ThreadPoolExecutor(1, thread_name_prefix="streams"),  # all other calls have their own, see PoolsInterceptor
            interceptors=build_interceptors(service, arrivals, self._health.look_soon),
            # A taken port must be an error: with SO_REUSEPORT two services would share it in silence.
            options=[
                ("grpc.so_reuseport", 0),
                # As much as the edge takes; from its soft limit on grpcio refuses at random.
                ("grpc.max_metadata_size", 64 * 1024),
                ("grpc.absolute_max_metadata_size", 128 * 1024),
            ],
        )
        user_service_pb2_grpc.add_UserServiceServicer_to_server(UserServicer(service), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, self._server)
        reflection_pool = ThreadPoolExecutor(REFLECTION_THREADS, thread_name_prefix="reflection")
        add_reflection(self._server, [CONTRACT.full_name, HEALTH.full_name], reflection_pool, arrivals)
        self.port = _listen(self._server, settings)

    def start(self) -> None:
        """Starts to answer."""
        self._health.start()
        self._server.start()

    def stop_serving(self) -> None:
        """Says NOT_SERVING to whoever asks for health, and goes on answering."""
        self._health.stop()

    def stop(self, grace_seconds: float) -> None:
        """Takes no new call, gives those under way their time, and lets go of port and store."""
        self.stop_serving()
        self._server.stop(grace_seconds).wait()
        self._store.close()


def free_ports(settings: Settings) -> list[int]:
    """Returns a port for each worker: in a row from GRPC_PORT on, or free ones for 0. Raises CannotListen."""
    if settings.grpc_port:
        return [settings.grpc_port + worker for worker in range(settings.workers)]
    with ExitStack() as held:  # together, so that they differ
        try:
            holders = [held.enter_context(next(_bound(settings))) for _ in range(settings.workers)]
            return [holder.getsockname()[1] for holder in holders]
        except OSError as error:
            raise _cannot_listen(settings, error) from None


def _listen(server: grpc.Server, settings: Settings) -> int:
    address = settings.address(settings.grpc_port)
    credentials = _credentials(settings)
    try:
        # Asked first, because grpcio does not say why it can't, and prints lines of its own.
        for probe in _bound(settings):
            probe.close()
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        raise _cannot_listen(settings, error) from None


def _cannot_listen(settings: Settings, error: Exception) -> CannotListen:
    cause = getattr(error, "strerror", None) or "the address can't be used"
    address = settings.address(settings.grpc_port)
    return CannotListen(f"Can't listen on {address}: {cause}. Set GRPC_HOST and GRPC_PORT to a free one.")


def _bound(settings: Settings) -> Iterator[socket.socket]:
    """Yields a socket for each address that the host has."""
    for family, kind, protocol, _, address in socket.getaddrinfo(
        settings.grpc_host, settings.grpc_port, type=socket.SOCK_STREAM
    ):
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        yield bound


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if not (settings.tls_cert_file and settings.tls_key_file):
        return None
    pair = (settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes())
    client_ca = settings.tls_client_ca_file.read_bytes() if settings.tls_client_ca_file else None
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
