"""Who a call comes from: its user agent, and the address of the peer or of the client that trusted proxies name."""

import ipaddress
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias
from urllib.parse import unquote

import structlog

from killrvideo_grpc.rpc.call import Call
from killrvideo_grpc.service.authentication import ClientInfo

FORWARDED_FOR = "x-forwarded-for"
MAX_USER_AGENT_LENGTH = 200
MAX_PROXIES = 16  # addresses of x-forwarded-for that are read, from the last one back
IPV6_PREFIX = 64  # a customer of a provider has at least a /64, and can use any of its addresses
UNKNOWN_SOURCE = "unknown"  # of a peer without an IP address
WARNING_INTERVAL = 60.0  # seconds between warnings about addresses that can't be parsed

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_log = structlog.get_logger()


class ClientInfoReader:
    """Reads who a call comes from. `trusted_proxies` are the networks whose `x-forwarded-for` counts."""

    def __init__(self, trusted_proxies: Sequence[Network], clock: Callable[[], float] = time.monotonic) -> None:
        self._trusted_proxies = trusted_proxies
        self._clock = clock
        self._warned_at = -math.inf

    def read_client_info(self, call: Call) -> ClientInfo:
        return ClientInfo(call.request_id, _user_agent(call), self.source(call))

    def source(self, call: Call) -> str | None:
        """Return the network address of the peer or, if that is a trusted proxy, of the client that it forwards for.

        The client's is the last address in `x-forwarded-for` that isn't a trusted proxy's. Callers can forge those
        before it. None if a trusted peer sent no address, or one that can't be parsed.
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
            forwarded = _address(entry)
            if forwarded is None:
                self._warn(entry)
                return None
            address = forwarded
            if not self._is_trusted(address):
                break
        return _source(address)

    def _warn(self, entry: str) -> None:
        """Log the form of an address that can't be parsed, but not the address."""
        now = self._clock()
        if now - self._warned_at >= WARNING_INTERVAL:
            self._warned_at = now
            form = re.sub(r"[^\W_]", "x", entry.strip()[:64])
            _log.warning("no address in x-forwarded-for; without limits per source", form=form)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted_proxies)


def _user_agent(call: Call) -> str:
    for key, value in call.metadata:
        if key == "user-agent" and isinstance(value, str) and value.isprintable():
            return value[:MAX_USER_AGENT_LENGTH]
    return ""


def _peer_address(peer: str) -> Address | None:
    """Parse a peer as grpcio writes it: `ipv4:192.0.2.1:4242` or `ipv6:%5B2001:db8::1%5D:4242`."""
    return _address(unquote(peer.partition(":")[2]))


def _address(text: str) -> Address | None:
    """Parse an address that may have quotes, brackets, a zone and a port, as in `"[2001:db8::1%eth0]:4242"`."""
    text = text.strip().removeprefix('"').removesuffix('"')
    return _plain_address(text) or _plain_address(re.sub(r":\d{1,5}$", "", text))


def _plain_address(text: str) -> Address | None:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
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
