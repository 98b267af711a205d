"""REST over HTTP/2, with requests that HTTP/1 can't express: trailers, and headers that only grpcio would reject."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from tests.rest.conftest import USERS, Account, Address, Edge, registered, registration
from tests.support.accounts import an_address
from tests.support.eventually import eventually

Fields = list[tuple[str, str]]
SERVICE = "/killrvideo.user.v1.UserService"
JSON: Fields = [("content-type", "application/json")]
GRPC: Fields = [("content-type", "application/grpc"), ("te", "trailers")]


class Http2:
    """A connection for requests that no well-behaved client sends."""

    def __init__(self, edge: Address) -> None:
        self._socket = edge.connect()
        options = H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._connection = H2Connection(options)
        encoder = self._connection.encoder
        # hpack takes seconds for Huffman codes of large headers.
        encoder.encode = partial(encoder.encode, huffman=False)  # type: ignore[method-assign]
        self._connection.initiate_connection()
        self._seen: defaultdict[int | None, list[Event]] = defaultdict(list)  # by stream

    def open(self, method: str, path: str, fields: Fields, *, is_whole: bool = False) -> int:
        """Send the headers of a request and return its stream."""
        stream = self._connection.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "edge"), (":path", path)]
        self._connection.send_headers(stream, pseudo + fields, end_stream=is_whole)
        self._socket.sendall(self._connection.data_to_send())
        return stream

    def send(self, method: str, path: str, fields: Fields, body: bytes = b"", trailers: Fields | None = None) -> int:
        """Send a request and return its stream."""
        stream = self.open(method, path, fields, is_whole=not body and not trailers)
        if body:
            self._connection.send_data(stream, body, end_stream=not trailers)
        if trailers:
            self._connection.send_headers(stream, trailers, end_stream=True)
        self._socket.sendall(self._connection.data_to_send())
        return stream

    def finish(self, stream: int, body: bytes) -> None:
        """Send the body of a request whose headers were sent."""
        self._connection.send_data(stream, body, end_stream=True)
        self._socket.sendall(self._connection.data_to_send())

    def answer(self, stream: int) -> tuple[dict[str, str], bytes, dict[str, str]]:
        """Wait for the response on a stream: its headers, body and trailers."""
        seen = self._seen[stream]
        while not any(isinstance(event, StreamEnded | StreamReset) for event in seen):
            data = self._socket.recv(65_536)
            assert data, "the connection has ended"
            for event in self._connection.receive_data(data):
                self._seen[getattr(event, "stream_id", 0)].append(event)
            self._socket.sendall(self._connection.data_to_send())
        body = b"".join(event.data for event in seen if isinstance(event, DataReceived) and event.data)
        return _fields(seen, ResponseReceived), body, _fields(seen, TrailersReceived)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def _fields(events: Iterable[Event], kind: type[ResponseReceived | TrailersReceived]) -> dict[str, str]:
    found = [event.headers for event in events if isinstance(event, kind)]
    return {str(name): str(value) for headers in found for name, value in headers or ()}


@pytest.fixture
def connection(edge: Edge) -> Iterator[Http2]:
    connection = Http2(edge)
    yield connection
    connection.close()


def bearer_of(account: Account) -> Fields:
    return list(account.bearer.items())


def test_answers_end_without_grpcs_trailers(connection: Http2, account: Account) -> None:
    body = json.dumps(registration(an_address())).encode()
    made = connection.answer(connection.send("POST", f"{USERS}/register", JSON, body))
    assert made[0][":status"] == "201"
    read = connection.answer(connection.send("GET", f"{USERS}/me", bearer_of(account)))
    assert json.loads(read[1])["userId"] == account.user_id
    wrong = connection.answer(connection.send("GET", f"{USERS}/me", []))
    assert wrong[0][":status"] == "401"
    for headers, _, trailers in (made, read, wrong):
        assert trailers == {}
        assert not [name for name in headers if name.startswith("grpc-")]


@pytest.mark.parametrize("name", ["x", "grpc-timeout", "grpc-encoding", "x-bin", "authorization"])
def test_trailers_are_refused(connection: Http2, client: httpx.Client, account: Account, name: str) -> None:
    requests: list[tuple[str, str, Fields, bytes]] = [
        ("GET", f"{USERS}/me", [], b""),
        ("PUT", f"{USERS}/me", JSON, b'{"firstName":"Zed"}'),
        ("PUT", f"{USERS}/me", JSON, b'{"firstName":"Ze'),
    ]
    for method, path, fields, body in requests:
        stream = connection.send(method, path, fields + bearer_of(account), body, [(name, "!!")])
        headers, text, _ = connection.answer(stream)
        assert (headers[":status"], json.loads(text)["status"]) == ("400", 400)
    assert client.get(f"{USERS}/me", headers=account.bearer).json()["firstName"] == "Ann"


def test_headers_that_grpc_cannot_parse_fail_no_other_call(edge: Edge, client: httpx.Client) -> None:
    """They never reach the connection to a worker, which all callers share."""
    for _ in range(8):  # enough to reach each of Envoy's threads
        connection = Http2(edge)
        odd = [("grpc-timeout", "zzz"), ("grpc-encoding", "zzz")]
        connection.answer(connection.send("POST", f"{SERVICE}/GetMe", GRPC, b"\0\0\0\0\0", odd))
        connection.answer(connection.send("GET", f"{USERS}/me", odd, trailers=odd))
        connection.close()
        assert {client.get(f"{USERS}/me").status_code for _ in range(10)} == {401}


@pytest.mark.parametrize(("kind", "path"), [(GRPC, f"{SERVICE}/Login"), (JSON, f"{USERS}/login")])
def test_a_call_begins_once_its_message_is_there(
    edge: Edge, connection: Http2, client: httpx.Client, kind: Fields, path: str
) -> None:
    """Otherwise the service would wait for it."""
    begun = edge.log.read_text().count(f"{SERVICE}/Login")
    for _ in range(80):
        connection.open("POST", path, kind)
    assert client.get(f"{USERS}/me").status_code == 401
    connection.close()  # if the call had begun, it would be logged as cancelled
    assert client.get(f"{USERS}/me").status_code == 401
    assert edge.log.read_text().count(f"{SERVICE}/Login") == begun


def test_requests_for_the_largest_response_are_limited(edge: Edge, client: httpx.Client) -> None:
    """It is the OpenAPI document. Envoy holds a copy for each caller that doesn't read it."""
    statuses: set[str] = set()
    for _ in range(5):
        connection = Http2(edge)
        streams = [connection.send("HEAD", "/openapi.json", []) for _ in range(100)]  # as many as a connection may have
        for stream in streams:
            headers, _, _ = connection.answer(stream)
            statuses.add(headers[":status"])
            assert headers.get("retry-after") == ("1" if headers[":status"] == "429" else None)
        connection.close()
    assert statuses == {"200", "429"}
    eventually(lambda: client.get("/openapi.json").status_code == 200)


def test_a_malformed_header_ends_its_own_request_only(edge: Edge, client: httpx.Client) -> None:
    account, connection = registered(client), Http2(edge)
    first = connection.send("GET", f"{USERS}/me", bearer_of(account))
    connection.send("GET", f"{USERS}/me", [("connection", "close")])
    assert connection.answer(first)[0][":status"] == "200"
    connection.close()
