"""The tokens of services: `kvs_NAME_` and 256 random bits in hexadecimal."""

import hashlib
import re
import secrets

from killrvideo_grpc.domain.services import TOKEN_PREFIX

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
TOKEN = re.compile(rf"{TOKEN_PREFIX}({NAME.pattern})_[0-9a-f]{{64}}")


def new_service_token(name: str) -> str:
    """Return a new token for a service."""
    return f"{TOKEN_PREFIX}{name}_{secrets.token_hex(32)}"


def service_digest(token: str) -> str | None:
    """Return the SHA-256 of a token, in hexadecimal; None for text that can't be one."""
    return hashlib.sha256(token.encode()).hexdigest() if TOKEN.fullmatch(token) else None
