"""Where calls come from: the peer, or whom trusted proxies have called for."""

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import unquote

from killrvideo_grpc.rpc.call import Call
from killrvideo_grpc.service.callers import Origin

FORWARDED_FOR = "x-forwarded-for"
MAX_USER_AGENT_LENGTH = 200
MAX_PROXIES = 16  # in a row; addresses beyond them aren't looked at
IPV6_PREFIX = 64  # what one customer has at least; each has 2^64 addresses to choose from
UNKNOWN = "unknown"  # a peer without an address, which a server on TCP has none of

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Origins:
    """Tells the origin of calls. `trusted` are the networks of proxies, whose `x-forwarded-for` counts."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted

    def of(self, call: Call) -> Origin:
        """Returns where a call comes from, as use cases need to know it."""
        return Origin(call.request_id, _user_agent(call), self.source(call))

    def source(self, call: Call) -> str | None:
        """Returns the address of the peer or, behind trusted proxies, the last address that they vouch for.

        Each proxy appends the address that it was called from, so the last one that isn't itself a trusted proxy's was
        written by one, and what precedes it by anyone. None: a trusted peer that names nobody, or something odd.
        """
        address = _peer_address(call.context.peer())
        if address is None:
            return UNKNOWN
        if not self._is_trusted(address):
            return _source(address)
        entries = ",".join(str(value) for key, value in call.metadata if key == FORWARDED_FOR)
        if not entries.strip():
            return None
        for entry in reversed(entries.rsplit(",", MAX_PROXIES)[-MAX_PROXIES:]):
            named = _address(_without_port(entry.strip()))
            if named is None:
                return None
            address = named
            if not self._is_trusted(address):
                break
        return _source(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _user_agent(call: Call) -> str:
    for key, value in call.metadata:
        if key == "user-agent" and isinstance(value, str) and value.isprintable():
            return value[:MAX_USER_AGENT_LENGTH]
    return ""


def _peer_address(peer: str) -> Address | None:
    """Reads `ipv4:192.0.2.1:4242` or `ipv6:%5B2001:db8::1%5D:4242`, as grpcio writes peers."""
    return _address(unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]"))


def _without_port(text: str) -> str:
    """Takes the port, which some proxies add, from `192.0.2.1:4242` and `[2001:db8::1]:4242`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _source(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
