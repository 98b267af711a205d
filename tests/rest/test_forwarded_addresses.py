"""The source of calls behind a load balancer, for throttling: `edge config --trusted-hops`."""

import ipaddress
import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import grpc
import httpx
import pytest
from killrvideo.user.v1.user_service_pb2 import LoginRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from killrvideo_grpc.edge.render import Edge as EdgeSettings
from tests.rest.conftest import USERS, envoy, is_ready
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.servers import running_server
from tests.support.settings import settings_in

PER_SOURCE = 3
FORMS = ["{}", "{}:4711", "{}:4712", '"{}"', '"{}:4711"']
FORMS_OF_V6 = ["{}", "[{}]", "[{}]:4711", '"[{}]:4711"']
addresses = (f"{number}@example.org" for number in itertools.count())  # a random one may share a source's slot


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[httpx.Client]]:
    """Edges of one service, with no, one and two trusted hops."""
    limits = {"max_failures_per_source": PER_SOURCE, "max_failures_per_account": 5}
    settings = settings_in(
        tmp_path_factory.mktemp("forwarded"), trusted_proxies=(ipaddress.ip_network("127.0.0.1"),), **limits
    )
    with ExitStack() as stack:
        service = stack.enter_context(running_server(settings))
        clients = []
        for hops in range(3):
            port = free_port()
            stack.enter_context(
                envoy(EdgeSettings(port=port, workers=[("127.0.0.1", service.port)], trusted_hops=hops))
            )
            client = stack.enter_context(httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}", timeout=30))
            eventually(partial(is_ready, client))
            clients.append(client)
        yield clients


def guess(edge: httpx.Client, *forwarded: str, email: str = "") -> int:
    """Send a wrong password, and return the HTTP status."""
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    body = {"email": email or next(addresses), "password": "wrong guess"}
    return edge.post(f"{USERS}/login", json=body, headers=headers).status_code


@pytest.mark.parametrize(
    ("address", "other", "form"),
    [("203.0.113.{}", "203.0.113.10{}", form) for form in FORMS]
    + [("2001:db8:0:{}::7", "2001:db8:0:10{}::7", form) for form in FORMS_OF_V6],
)
def test_each_client_behind_a_proxy_is_a_source_however_its_address_is_written(
    edges: list[httpx.Client], address: str, other: str, form: str
) -> None:
    number = [*FORMS, *FORMS_OF_V6].index(form)
    address, other = address.format(number), other.format(number)
    assert [guess(edges[1], form.format(address)) for _ in range(PER_SOURCE + 1)] == [401] * PER_SOURCE + [429]
    assert guess(edges[1], address) == 429
    assert guess(edges[1], form.format(other)) == 401


def test_only_what_trusted_proxies_wrote_counts(edges: list[httpx.Client]) -> None:
    for hops, appended in ((1, ["198.51.100.1:80"]), (2, ["198.51.100.2:80", "198.51.100.99"])):
        claims = [["203.0.113.200"], ["198.51.100.250, garbage"], [], [""]]
        answers = [guess(edges[hops], *claim, ", ".join(appended)) for claim in claims]
        assert answers == [401] * PER_SOURCE + [429]
    # Without trusted hops, all calls come from Envoy's peer. It is a trusted proxy here, and so its own source.
    assert [guess(edges[0], f"203.0.113.{number}") for number in range(50, 54)] == [401] * PER_SOURCE + [429]


@pytest.mark.parametrize("forwarded", [["unknown"], ["203.0.113.9;4711"], ["198.51.100.3, x"], ["a\xff"], [""], []])
def test_a_source_without_an_address_cannot_block_others(edges: list[httpx.Client], forwarded: list[str]) -> None:
    """Nor can it guess the password of one account without end."""
    assert {guess(edges[1], *forwarded) for _ in range(PER_SOURCE + 1)} == {401}
    email = next(addresses)
    assert [guess(edges[1], *forwarded, email=email) for _ in range(6)] == [401] * 5 + [429]


def test_a_missing_proxy_is_a_missing_address(edges: list[httpx.Client]) -> None:
    assert {guess(edges[2], "203.0.113.30") for _ in range(PER_SOURCE + 1)} == {401}


def test_grpc_callers_behind_a_proxy_are_sources_too(edges: list[httpx.Client]) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{edges[1].base_url.port}") as channel:
        login, codes = UserServiceStub(channel).Login, []
        for claim in range(PER_SOURCE + 1):
            metadata = (("x-forwarded-for", f"203.0.113.{claim}, [2001:db8:7::1]:80"),)
            with pytest.raises(grpc.RpcError) as caught:
                login(LoginRequest(email=next(addresses), password="wrong guess"), metadata=metadata)
            codes.append(caught.value.code())
    assert codes == [grpc.StatusCode.UNAUTHENTICATED] * PER_SOURCE + [grpc.StatusCode.RESOURCE_EXHAUSTED]
