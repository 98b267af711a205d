"""Services: callers without an account, each with tokens and grants of its own."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

TOKEN_PREFIX = "kvs_"  # noqa: S105 # access tokens begin with "ey": their header is JSON
MAX_TOKENS = 2


class Grant(StrEnum):
    """What an operator can allow a service."""

    READ_PROFILES = "read_profiles"
    CHECK_TOKENS = "check_tokens"
    RESET_PASSWORDS = "reset_passwords"


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A token as it is stored: the SHA-256 of its whole text, in hexadecimal."""

    digest: str
    created_date: datetime


@dataclass(frozen=True, slots=True)
class Service:
    """A service with its tokens, the oldest first. Grants that only a newer version knows are kept."""

    name: str
    grants: frozenset[str]
    tokens: tuple[ServiceToken, ...]


Services: TypeAlias = Mapping[str, Service]
"""All services, by name."""

ServicesChange: TypeAlias = Callable[[Services], Services]
"""A function of all services. Applied again to its own result, it returns that result."""


class ServiceChangeRejected(Exception):
    """A service can't be changed like this. The message tells the operator why."""


def add_service(name: str, grants: Collection[Grant], token: ServiceToken) -> ServicesChange:
    """Return the change that adds a service."""

    def change(services: Services) -> Services:
        if name not in services:
            return {**services, name: Service(name, frozenset(grants), (token,))}
        if token in services[name].tokens:
            return services
        raise ServiceChangeRejected(f"There is a service {name} already. For a second token: services rotate {name}")

    return change


def rotate_service(name: str, token: ServiceToken) -> ServicesChange:
    """Return the change that gives a service a second token."""

    def change(services: Services) -> Services:
        service = _find(services, name)
        if token in service.tokens:
            return services
        if len(service.tokens) >= MAX_TOKENS:
            raise ServiceChangeRejected(
                f"{name} has two tokens already. End the older one with: services rotate {name} --drop-old"
            )
        return {**services, name: replace(service, tokens=(*service.tokens, token))}

    return change


def drop_old_token(name: str) -> ServicesChange:
    """Return the change that ends the older of two tokens. It does nothing if there is only one."""

    def change(services: Services) -> Services:
        service = _find(services, name)
        return {**services, name: replace(service, tokens=service.tokens[-1:])}

    return change


def remove_service(name: str) -> ServicesChange:
    """Return the change that removes a service."""
    found = False

    def change(services: Services) -> Services:
        nonlocal found
        if not found:  # after a lost answer, a second try may find the service removed
            _find(services, name)
            found = True
        return {each: service for each, service in services.items() if each != name}

    return change


def _find(services: Services, name: str) -> Service:
    if name not in services:
        raise ServiceChangeRejected(f"There is no service {name}.")
    return services[name]
