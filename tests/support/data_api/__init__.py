"""A stand-in for DataStax' Data API, for tests and benchmarks: a real HTTP server that answers as the real one did.

`transcripts.jsonl`, `account-documents.jsonl` and `updates.jsonl` hold what a real one answered (release 1.0.51 on
Apache Cassandra 5.0.5), and the tests hold the stand-in to it. It refuses what Apache Cassandra refuses and what it
does not know itself, so that nothing gets built on what only some databases take, or none.
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
