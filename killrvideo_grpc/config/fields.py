"""Types of settings, with the checks that don't depend on other settings."""

import ipaddress
import re
import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

MAX_PORT = 65535
HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
KEYSPACE = r"^[A-Za-z0-9_]{1,48}$"  # as Cassandra allows
HTTP_ADDRESS = re.compile(r"http://(?:\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]|([^\[\]:/]+)):([0-9]{1,5})/?")

Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
Attempts = Annotated[int, Field(ge=0, le=1_000_000)]  # 0: no limit


def _on_one_line(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("must not contain line breaks or other control characters")
    return text


def _trimmed(secret: SecretStr) -> SecretStr:
    return SecretStr(_on_one_line(secret.get_secret_value().strip()))


def _without_brackets(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")


def _expanded(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("must not contain NUL characters")
    try:
        return Path(str(path).strip()).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ and a user without a home directory") from None


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from None
    return path


def sibling_address(url: str, edge_host: str, edge_port: int) -> tuple[str, int]:
    """Return the host and the port of the siblings' URL. Raise ValueError if it is malformed, or the edge's own."""
    found = HTTP_ADDRESS.fullmatch(url)
    host, port = (found[1] or found[2], int(found[3])) if found else ("", 0)
    is_host = is_ip_address(host) if ":" in host else HOST_NAME.fullmatch(host)
    if not (is_host and 0 < port <= MAX_PORT):
        raise ValueError("must be http://HOST:PORT, without a path")
    if port == edge_port and (host.lower() == edge_host.lower() or _is_this_machine(host)):
        raise ValueError("is the edge's own address: requests would go in circles")
    return host, port


def _is_this_machine(host: str) -> bool:
    if not is_ip_address(host):
        return host.lower().rstrip(".") == "localhost"
    address = ipaddress.ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def host_and_port(host: str, port: int) -> str:
    """Return HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip_address(text: str) -> bool:
    """Return whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_on_one_line)]
TokenClaim = Annotated[Text, Field(max_length=200)]
Host = Annotated[Text, AfterValidator(_without_brackets)]  # an IPv6 address may have brackets
Secret = Annotated[SecretStr, AfterValidator(_trimmed)]
ExpandedPath = Annotated[Path, AfterValidator(_expanded)]
ReadableFile = Annotated[ExpandedPath, AfterValidator(_readable)]
