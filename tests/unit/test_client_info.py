"""The source of calls, which throttling depends on."""

import ipaddress

import pytest
import structlog.testing

from killrvideo_grpc.rpc.call import Call
from killrvideo_grpc.rpc.client_info import ClientInfoReader

TRUSTED = [ipaddress.ip_network(text) for text in ("127.0.0.1", "10.0.0.0/8", "fd00::/8")]


class Peer:
    """A grpcio context that only knows its peer."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


def source(peer: str, *forwarded: str) -> str | None:
    return ClientInfoReader(TRUSTED).source(a_call(peer, *forwarded))


def a_call(peer: str, *forwarded: str) -> Call:
    call = Call(tuple(("x-forwarded-for", value) for value in forwarded))
    call.context = Peer(peer)  # type: ignore[assignment] # nothing else of it is asked
    return call


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:192.0.2.1:4242", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4242", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::]:4242", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:4242", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4242", "fe80::/64"),
        ("unix:/run/service.sock", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_untrusted_peer_is_its_own_source_whatever_it_sends(peer: str, expected: str) -> None:
    assert source(peer) == expected
    assert source(peer, "198.51.100.7") == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["198.51.100.7"], "198.51.100.7"),
        (["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        (["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        (["203.0.113.9,198.51.100.7 , 10.1.2.3"], "198.51.100.7"),
        (["garbage, 198.51.100.7"], "198.51.100.7"),
        (["198.51.100.7:4242"], "198.51.100.7"),
        (["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (["[2001:db8:1:2:3::4]"], "2001:db8:1:2::/64"),
        (["[2001:db8:1:2:3::4]:4242"], "2001:db8:1:2::/64"),
        (["2001:db8:1:2:3:4:5:6:4242"], "2001:db8:1:2::/64"),
        (['"198.51.100.7"'], "198.51.100.7"),
        (['"198.51.100.7:4242"'], "198.51.100.7"),
        (['203.0.113.9, "[2001:db8:1:2:3::4]:4242" '], "2001:db8:1:2::/64"),
        (["[fe80::1%eth0]:4242"], "fe80::/64"),
        (["[::ffff:198.51.100.7]:4242"], "198.51.100.7"),
        (["::ffff:198.51.100.7:4242"], "198.51.100.7"),
        (["198.51.100.7:4242, 10.1.2.3:80"], "198.51.100.7"),
        (["::ffff:198.51.100.7"], "198.51.100.7"),
        (["10.9.9.9, 10.1.2.3"], "10.9.9.9"),  # a trusted proxy that calls on its own behalf
        ([], None),
        ([""], None),
        (["  "], None),
        (["unknown"], None),
        (["198.51.100.7, garbage"], None),
        (["198.51.100.7,"], None),
        (["256.1.1.1"], None),
        (["198.51.100.7:"], None),
        (["198.51.100.7:123456"], None),
        (["[2001:db8::1]x"], None),
        (["[2001:db8::1"], None),
        (['""'], None),
        (["198.51.100.7, garbage, 10.1.2.3"], None),
    ],
)
@pytest.mark.parametrize("peer", ["ipv4:127.0.0.1:4242", "ipv4:10.0.0.5:4242", "ipv6:%5Bfd00::1%5D:4242"])
def test_trusted_proxies_vouch_for_the_last_address_that_is_not_theirs(
    peer: str, forwarded: list[str], expected: str | None
) -> None:
    assert source(peer, *forwarded) == expected


def test_addresses_that_cannot_be_parsed_are_logged_once_a_minute() -> None:
    times = iter([0.0, 59.0, 60.0])
    reader = ClientInfoReader(TRUSTED, lambda: next(times))
    call = a_call("ipv4:127.0.0.1:4242", "203.0.113.9;4711")
    with structlog.testing.capture_logs() as logs:
        assert [reader.source(call) for _ in range(3)] == [None] * 3
    assert [(line["log_level"], line["form"]) for line in logs] == [("warning", "xxx.x.xxx.x;xxxx")] * 2


def test_only_a_bounded_number_of_proxies_is_followed() -> None:
    assert source("ipv4:127.0.0.1:4242", "198.51.100.7," + "10.0.0.1," * 5000 + "10.0.0.2") == "10.0.0.1"


def test_without_trusted_proxies_forwarded_addresses_are_ignored() -> None:
    assert ClientInfoReader([]).source(a_call("ipv4:127.0.0.1:4242", "198.51.100.7")) == "127.0.0.1"
