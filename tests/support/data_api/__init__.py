"""A stand-in for DataStax' Data API, for tests and benchmarks: a real HTTP server that answers as the real one did.

`transcripts.jsonl`, `account-documents.jsonl` and `updates.jsonl` hold what a real one answered (release 1.0.51 on
Apache Cassandra 5.0.5), and tests/stand_in checks that the stand-in answers the same. It refuses whatever Apache
Cassandra refuses, and whatever it doesn't implement, so that the service can't come to depend on either.
"""

from tests.support.data_api.errors import Refusal
from tests.support.data_api.faults import Close, Delay, Drip, ErrorAnswer, Fault, Garbage, Hang, HttpStatus, Truncate
from tests.support.data_api.requests import Request
from tests.support.data_api.stand_in import StandIn

__all__ = [
    "Close",
    "Delay",
    "Drip",
    "ErrorAnswer",
    "Fault",
    "Garbage",
    "Hang",
    "HttpStatus",
    "Refusal",
    "Request",
    "StandIn",
    "Truncate",
]
