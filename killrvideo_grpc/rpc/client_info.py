"""Who a call comes from: its user agent, and the address of the peer or of the client that trusted proxies name."""

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import unquote

from killrvideo_grpc.rpc.call import Call
from killrvideo_grpc.service.authentication import ClientInfo

FORWARDED_FOR = "x-forwarded-for"
MAX_USER_AGENT_LENGTH = 200
MAX_PROXIES = 16  # addresses of x-forwarded-for that are read, from the last one back
IPV6_PREFIX = 64  # a customer of a provider has at least a /64, and can use any of its addresses
UNKNOWN_SOURCE = "unknown"  # of a peer without an IP address

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientInfoReader:
    """Reader of who a call comes from. `trusted_proxies` are the networks whose `x-forwarded-for` counts."""

    def __init__(self, trusted_proxies: Sequence[Network]) -> None:
        self._trusted_proxies = trusted_proxies

    def read_client_info(self, call: Call) -> ClientInfo:
        return ClientInfo(call.request_id, _user_agent(call), self.source(call))

    def source(self, call: Call) -> str | None:
        """Return the network address of the peer or, if that is a trusted proxy, of the client that it forwards for.

        That is the last address in `x-forwarded-for` that isn't a trusted proxy's: each proxy appends its caller's, and
        callers can write any before it. None if a trusted peer sent no address, or one that can't be parsed.
        """
        address = _peer_address(call.context.peer())
        if address is None:
            return UNKNOWN_SOURCE
        if not self._is_trusted(address):
            return _source(address)
        entries = ",".join(str(value) for key, value in call.metadata if key == FORWARDED_FOR)
        if not entries.strip():
            return None
        for entry in reversed(entries.rsplit(",", MAX_PROXIES)[-MAX_PROXIES:]):
            forwarded = _address(_without_port(entry.strip()))
            if forwarded is None:
                return None
            address = forwarded
            if not self._is_trusted(address):
                break
        return _source(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted_proxies)


def _user_agent(call: Call) -> str:
    for key, value in call.metadata:
        if key == "user-agent" and isinstance(value, str) and value.isprintable():
            return value[:MAX_USER_AGENT_LENGTH]
    return ""


def _peer_address(peer: str) -> Address | None:
    """Parse a peer as grpcio writes it: `ipv4:192.0.2.1:4242` or `ipv6:%5B2001:db8::1%5D:4242`."""
    return _address(unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]"))


def _without_port(text: str) -> str:
    """Remove the port that some proxies add, as in `192.0.2.1:4242` and `[2001:db8::1]:4242`."""
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
