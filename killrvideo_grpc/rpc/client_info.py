"""Determines where calls come from: from the peer, or from the client that trusted proxies name."""

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import unquote

from killrvideo_grpc.rpc.call import Call
from killrvideo_grpc.service.authentication import Origin

FORWARDED_FOR = "x-forwarded-for"
MAX_USER_AGENT_LENGTH = 200
MAX_PROXIES = 16  # only this many addresses of x-forwarded-for are read, from the last one back
IPV6_PREFIX = 64  # providers assign at least a /64 to a customer, who can use any of its 2^64 addresses
UNKNOWN = "unknown"  # the source of a peer without an IP address, which can't happen on TCP

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Origins:
    """Determines the origin of calls. `trusted` are the networks of proxies whose `x-forwarded-for` is trusted."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted

    def of(self, call: Call) -> Origin:
        """Returns the request id, user agent and source of a call."""
        return Origin(call.request_id, _user_agent(call), self.source(call))

    def source(self, call: Call) -> str | None:
        """Returns the network address of the peer or, if that is a trusted proxy, of the client that it forwards for.

        Each proxy appends the address that it was called from. So the last address that isn't a trusted proxy's was
        appended by a trusted proxy, but anyone may have written the ones before it. Returns None if the peer is trusted
        and sent no address, or one that can't be parsed.
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
    """Parses a peer as grpcio writes it: `ipv4:192.0.2.1:4242` or `ipv6:%5B2001:db8::1%5D:4242`."""
    return _address(unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]"))


def _without_port(text: str) -> str:
    """Removes the port that some proxies add, as in `192.0.2.1:4242` and `[2001:db8::1]:4242`."""
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
