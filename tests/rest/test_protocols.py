"""gRPC and gRPC-Web on the same port, and the OpenAPI document compared with what the edge serves."""

import base64
import os
import re
import struct
import subprocess
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from killrvideo.user.v1.user_pb2 import User
from killrvideo.user.v1.user_service_pb2 import GetMeRequest, RegisterRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.rest.conftest import Account, Edge, promote, registered
from tests.support.accounts import PASSWORD
from tests.support.errors import read_failure
from tests.support.process import BIN, GRPCURL

CONFIG = Path(__file__).with_name("schemathesis.toml")
GET_ME = "/killrvideo.user.v1.UserService/GetMe"


def test_grpc(edge: Edge, account: Account) -> None:
    with grpc.insecure_channel(edge.url.removeprefix("http://")) as channel:
        stub = UserServiceStub(channel)
        bearer = (("authorization", f"Bearer {account.token}"),)
        assert stub.GetMe(GetMeRequest(), metadata=bearer).user_id == account.user_id
        with pytest.raises(grpc.RpcError) as caught:
            stub.Register(RegisterRequest(email=account.email, password=PASSWORD, first_name="Ann"))
        assert list(read_failure(caught.value).violations) == ["lastName"]
        health = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        assert health(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_grpcurl(edge: Edge) -> None:
    done = subprocess.run(
        [GRPCURL, "-plaintext", edge.url.removeprefix("http://"), "list"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "killrvideo.user.v1.UserService" in done.stdout


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text+proto"])
def test_grpc_web(client: httpx.Client, account: Account, kind: str) -> None:
    """Send and read frames as the browser's library does: a flag, a length and a message, then the trailers."""
    is_text = "text" in kind
    frame = struct.pack(">BI", 0, 0) + GetMeRequest().SerializeToString()
    headers = {"content-type": kind, "accept": kind, "x-grpc-web": "1", "origin": "http://localhost:5173"}
    body = base64.b64encode(frame) if is_text else frame
    answer = client.post(GET_ME, content=body, headers=headers | account.bearer)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
    # In gRPC-Web-Text, each chunk is encoded separately.
    chunks = re.findall(rb"[A-Za-z0-9+/]+=*", answer.content) if is_text else []
    content = b"".join(map(base64.b64decode, chunks)) if is_text else answer.content
    flag, length = struct.unpack(">BI", content[:5])
    assert flag == 0
    assert User.FromString(content[5 : 5 + length]).user_id == account.user_id
    assert b"grpc-status:0" in content[5 + length :]


def test_grpc_web_preflight(client: httpx.Client) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-grpc-web,content-type"}
    answer = client.options(GET_ME, headers={"origin": "http://localhost:5173"} | asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "http://localhost:5173")


def test_a_refused_call_over_grpc_web(client: httpx.Client) -> None:
    headers = {"content-type": "application/grpc-web+proto"}
    answer = client.post(GET_ME, content=struct.pack(">BI", 0, 0), headers=headers)
    assert answer.status_code == 200
    assert answer.headers.get("grpc-status") == "16" or b"grpc-status:16" in answer.content


CONFORMANCE = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,missing_required_header,negative_data_rejection"
)


def test_openapi_describes_what_is_served(client: httpx.Client, edge: Edge, account: Account) -> None:
    """Schemathesis makes valid and invalid calls from the document, and finds no response that it lacks."""
    promote(edge, account)
    done = subprocess.run(
        [
            *(str(BIN / "schemathesis"), "--config-file", str(CONFIG), "run", f"{edge.url}/openapi.json"),
            *("--url", edge.url, "--checks", CONFORMANCE, "--seed", "1", "--no-color"),
            *("--phases", "examples,coverage", "--request-timeout", "20", "--suppress-health-check", "all"),
        ],
        env=os.environ | {"TOKEN": account.token, "LOGOUT_TOKEN": registered(client).token},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
