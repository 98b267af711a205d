"""A fake Data API, for tests and benchmarks: a real HTTP server that answers as the real one did.

The `.jsonl` files hold answers of a real one (release 1.0.51 on Apache Cassandra 5.0.5); tests/fake_data_api checks
that the fake answers the same. It refuses whatever Apache Cassandra refuses, and whatever it doesn't implement.
"""

from tests.support.fake_data_api.errors import Refusal
from tests.support.fake_data_api.faults import (
    Close,
    Delay,
    Drip,
    ErrorAnswer,
    Fault,
    Garbage,
    Hang,
    HttpStatus,
    Late,
    Truncate,
)
from tests.support.fake_data_api.requests import Request
from tests.support.fake_data_api.server import FakeDataApi, Snapshot

__all__ = [
    "Close",
    "Delay",
    "Drip",
    "ErrorAnswer",
    "FakeDataApi",
    "Fault",
    "Garbage",
    "Hang",
    "HttpStatus",
    "Late",
    "Refusal",
    "Request",
    "Snapshot",
    "Truncate",
]
