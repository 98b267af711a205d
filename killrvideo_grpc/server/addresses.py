"""Addresses of servers on this machine."""

from ipaddress import ip_address

from killrvideo_grpc.config.fields import host_and_port


def reachable_host(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    try:
        address = ip_address(host)
    except ValueError:  # a name
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def http_url(host: str, port: int, scheme: str = "http") -> str:
    """Return the URL of a server."""
    return f"{scheme}://{host_and_port(host, port)}"
