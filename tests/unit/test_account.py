"""Accounts: their roles and statuses, and the normal form of e-mail addresses."""

from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killrvideo_grpc.domain.account import AccountStatus, Role, normal_email, now, read_roles, read_status
from tests.support.accounts import an_account


def test_each_role_includes_those_below_it() -> None:
    acts = {role: [other for other in Role if an_account(roles=frozenset({role})).may_act_as(other)] for role in Role}
    assert acts == {
        Role.VIEWER: [Role.VIEWER],
        Role.CREATOR: [Role.VIEWER, Role.CREATOR],
        Role.MODERATOR: [Role.VIEWER, Role.CREATOR, Role.MODERATOR],
    }
    assert not an_account(roles=frozenset()).may_act_as(Role.VIEWER)


def test_unknown_roles_and_statuses_in_a_store_grant_nothing() -> None:
    assert read_roles(["viewer", "admin", "MODERATOR"]) == {Role.VIEWER}
    assert [read_status(name) for name in ("active", "suspended", "ACTIVE", "locked", None)] == [
        AccountStatus.ACTIVE,
        *[AccountStatus.SUSPENDED] * 4,
    ]


LABELS = (
    st.text(st.sampled_from("xn--\u00df\u017f.@aZ9\u00fc\u0130\u0131\u03a3\u3002\u05d0\u0301\u0345\u2024\uff0e"))
    | st.text()
)


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["@", ".", "xn--", "XN--"]) | LABELS).map("".join))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normal_email(normal_email(text)) == normal_email(text)


@settings(max_examples=15)
@given(st.emails())
def test_spellings_of_an_address_have_one_normal_form(address: str) -> None:
    assert normal_email(f" {address.upper()}\n") == normal_email(address)


def test_full_width_letters_are_the_same_address() -> None:
    assert normal_email("\uff22\uff2f\uff22\uff20\uff38\uff0e\uff2f\uff32\uff27") == "bob@x.org"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ann@B\u00fccher.example", "ann@XN--Bcher-kva.example"),
        # IDNA refuses one of the labels.
        ("ann@ab--c.b\u00fccher.de", "ann@ab--c.xn--bcher-kva.de"),
        ("ann@xn--zz.b\u00fccher.de", "ann@xn--zz.xn--bcher-kva.de"),
        ("ann@0\u05d0.org", "ann@XN--0-0HC.org"),
        ("ann@" + "\u00fc" * 63 + ".ORG", "Ann@" + "\u00dc" * 63 + ".org"),
        # Of an extension that some versions of Python don't know.
        ("ann@\U00031350.org", "ann@xn--8o8n.org"),
        ("ann@a\u3002org", "ann@a.org"),
    ],
)
def test_spellings_of_a_domain_are_one(one: str, other: str) -> None:
    assert normal_email(one) == normal_email(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ann@fa\u00df.de", "ann@fass.de"), ("ann@ab--c.fa\u00df.de", "ann@ab--c.fass.de"), ("a@xn--a-.org", "a@a.org")],
)
def test_other_domains_are_others(one: str, other: str) -> None:
    assert normal_email(one) != normal_email(other)


def test_now_is_utc_in_whole_milliseconds() -> None:
    assert now().tzinfo is UTC
    assert now().microsecond % 1000 == 0
