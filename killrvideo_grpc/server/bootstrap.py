"""The composition root: builds the server and its use cases from the settings."""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.account import Lifetimes
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.rpc.client_info import ClientInfoReader
from killrvideo_grpc.rpc.user_servicer import UserServicer
from killrvideo_grpc.security.access_keys import access_keys, json_web_keys
from killrvideo_grpc.security.access_tokens import JwtAccessTokens
from killrvideo_grpc.security.hashing_pool import HashingProcessPool
from killrvideo_grpc.security.keys import keyed_digest
from killrvideo_grpc.security.page_tokens import JwtPageTokens
from killrvideo_grpc.security.passwords import BcryptHasher
from killrvideo_grpc.security.refresh_tokens import JwtRefreshTokens
from killrvideo_grpc.security.service_tokens import service_digest
from killrvideo_grpc.server.grpc_server import RECEIVE_TIMEOUT, UserServer
from killrvideo_grpc.service.accounts import Accounts
from killrvideo_grpc.service.authentication import Authenticator
from killrvideo_grpc.service.moderation import Moderation
from killrvideo_grpc.service.recovery import Recovery, ResetCodes
from killrvideo_grpc.service.service_authentication import ServiceAuthenticator
from killrvideo_grpc.service.sessions import Sessions
from killrvideo_grpc.service.throttle import Limits, Throttle

MAX_HASHING_PROCESSES = 8  # of 11 MB each


@dataclass(frozen=True, slots=True)
class ServerParts:
    """What a `UserServer` is made of, besides the settings and the store."""

    authenticator: Authenticator
    accounts: Accounts
    servicer: UserServicer
    passwords: BcryptHasher


async def start_server(
    settings: Settings,
    store: AccountStore,
    instrumentation: Instrumentation = NOOP,
    receive_timeout: float = RECEIVE_TIMEOUT,
) -> UserServer:
    """Start a server and return it. The store is closed when the server stops, or if it can't be started.

    Raise SetupError.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        parts = build_parts(settings, store, instrumentation=instrumentation)
        server = UserServer(
            settings,
            parts.authenticator,
            parts.servicer,
            store,
            parts.passwords,
            instrumentation,
            receive_timeout,
        )
        await server.start_serving()
        stack.pop_all()  # success: from here on the server closes the store
        return server


def build_parts(
    settings: Settings,
    store: AccountStore,
    passwords: BcryptHasher | None = None,
    instrumentation: Instrumentation = NOOP,
) -> ServerParts:
    """Build the use cases, and the servicer that calls them, from the settings and a store. Raise SetupError."""
    keys = settings.accepted_keys()
    signing_keys = access_keys(keys, settings.algorithm)
    access_tokens = JwtAccessTokens(
        signing_keys,
        settings.algorithm,
        timedelta(minutes=settings.access_token_expire_minutes),
        timedelta(seconds=settings.clock_skew_seconds),
        issuer=settings.token_issuer,
        audience=settings.audience,
    )
    rounds = settings.bcrypt_rounds
    passwords = passwords or BcryptHasher(rounds, HashingProcessPool(rounds), _concurrent_hashes(), instrumentation)
    throttle = _throttle(settings, keys, store, instrumentation)
    sessions = Sessions(store, access_tokens, JwtRefreshTokens(keys), _lifetimes(settings), throttle)
    page_tokens = JwtPageTokens(keys, settings.store)
    authenticator = Authenticator(store, access_tokens, ServiceAuthenticator(store, service_digest))
    accounts = Accounts(store, passwords, sessions, throttle, page_tokens)
    servicer = UserServicer(
        accounts,
        sessions,
        Recovery(store, passwords, sessions, throttle),
        _reset_codes(settings, store, throttle),
        Moderation(store, page_tokens),
        ClientInfoReader(settings.trusted_proxies),
        authenticator,
        json_web_keys(signing_keys),
    )
    return ServerParts(authenticator, accounts, servicer, passwords)


def build_reset_codes(settings: Settings, store: AccountStore) -> ResetCodes:
    """Build the use case that makes reset codes. Raise SetupError."""
    return _reset_codes(settings, store, _throttle(settings, settings.accepted_keys(), store))


def _reset_codes(settings: Settings, store: AccountStore, throttle: Throttle) -> ResetCodes:
    return ResetCodes(store, throttle, timedelta(minutes=settings.password_reset_minutes))


def _throttle(
    settings: Settings, keys: Sequence[str], store: AccountStore, instrumentation: Instrumentation = NOOP
) -> Throttle:
    digest, *former = (keyed_digest(key, "throttle") for key in keys)
    return Throttle(
        store, digest, _limits(settings), _concurrent_hashes(), instrumentation.hash_wait, former_digests=former
    )


def _lifetimes(settings: Settings) -> Lifetimes:
    return Lifetimes(
        idle=timedelta(days=settings.refresh_token_expire_days), total=timedelta(days=settings.session_max_days)
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        account_and_source=settings.max_failures_per_account_and_source,
        source=settings.max_failures_per_source,
        account=settings.max_failures_per_account,
        registrations=settings.max_registrations_per_source,
    )


def _concurrent_hashes() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_HASHING_PROCESSES)
