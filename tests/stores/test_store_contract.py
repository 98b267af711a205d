"""What every UserStore promises (domain/ports.py), on each store of tests/stores/harness.py."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from uuid import uuid4

import pytest

from killrvideo_grpc.domain import deadline
from killrvideo_grpc.domain.errors import DeadlineExceeded, EmailAlreadyRegistered, UserNotFound
from killrvideo_grpc.domain.ports import UserStore
from killrvideo_grpc.domain.user import AccountStatus, Role, User, normal_email, now
from tests.stores.harness import Harness
from tests.support.accounts import a_user, an_address

HASH = "$2b$04$abcdefghijklmnopqrstuuGk5g4yLZu1bYF6bTzmmWYYOmZOuQxEW"


@pytest.fixture
def user(store: UserStore) -> User:
    user = a_user()
    store.register(user, HASH)
    return user


def test_reads_what_was_registered(store: UserStore, user: User) -> None:
    assert store.get(user.user_id) == user
    credentials = store.find_credentials(user.email)
    assert credentials
    assert credentials.password_hash == HASH
    assert credentials.registered.user_id == user.user_id
    assert store.get_registered(credentials) == user


def test_every_store_on_the_database_sees_it(harness: Harness, user: User) -> None:
    other = harness.open()
    assert other.get(user.user_id) == user
    other.close()


@pytest.mark.parametrize("name", ["Å", "李", "a\u0000b", "🙂" * 50, "O'Brien; DROP TABLE users", '"$set"', "שלום"])
def test_keeps_names_to_the_letter(store: UserStore, name: str) -> None:
    user = replace(a_user(), first_name=name, last_name=name[::-1])
    store.register(user, HASH)
    assert store.get(user.user_id) == user


def test_an_unknown_account_is_none(store: UserStore) -> None:
    assert store.get(uuid4()) is None
    assert store.find_credentials(an_address()) is None


def test_an_address_is_one_in_every_spelling(store: UserStore) -> None:
    user = a_user(f"  Bob.{uuid4().hex}@EXAMPLE.org".upper())
    store.register(user, HASH)
    assert store.find_credentials(normal_email(user.email))
    assert store.find_credentials(f"\u3000{user.email.lower()}\t")
    with pytest.raises(EmailAlreadyRegistered):
        store.register(a_user(user.email.swapcase()), HASH)


def test_a_taken_address_changes_nothing(store: UserStore, user: User) -> None:
    other = replace(a_user(user.email), first_name="Mallory")
    with pytest.raises(EmailAlreadyRegistered):
        store.register(other, HASH.replace("G", "H"))
    assert store.get(other.user_id) is None
    assert store.get(user.user_id) == user
    credentials = store.find_credentials(user.email)
    assert credentials
    assert credentials.password_hash == HASH


def test_one_of_many_claims_wins(harness: Harness) -> None:
    callers, stores = 16, [harness.open() for _ in range(4)]
    claims = [a_user("Claimed@example.org") for _ in range(callers)]
    start = Barrier(callers)

    def claim(number: int) -> bool:
        start.wait(10)
        try:
            stores[number % len(stores)].register(claims[number], HASH)
        except EmailAlreadyRegistered:
            return False
        return True

    with ThreadPoolExecutor(callers) as pool:
        won = list(pool.map(claim, range(callers)))
    assert won.count(True) == 1
    found = [stores[0].get(claim.user_id) for claim in claims]
    assert found == [claim if win else None for claim, win in zip(claims, won, strict=True)]
    for store in stores:
        store.close()


def test_rename_writes_what_is_given(store: UserStore, user: User) -> None:
    renamed = store.rename(user, "Bea", None)
    assert renamed == replace(user, first_name="Bea")
    assert store.get(user.user_id) == renamed
    assert store.rename(renamed, "Cleo", "Ray") == replace(user, first_name="Cleo", last_name="Ray")
    assert store.rename(renamed, None, "Roy").last_name == "Roy"
    assert store.get(user.user_id) == replace(user, first_name="Cleo", last_name="Roy")


def test_rename_makes_no_account(harness: Harness, store: UserStore, user: User) -> None:
    harness.remove(user.user_id)
    try:
        store.rename(user, "Ghost", None)
    except UserNotFound:
        pass  # a store that can tell says so; one that can't must still show no account
    assert store.get(user.user_id) is None


def test_rename_keeps_what_others_changed_since(store: UserStore, user: User) -> None:
    store.add_role(user.user_id, Role.CREATOR)
    store.record_login(user.user_id, now())
    store.rename(user, "Bea", None)
    found = store.get(user.user_id)
    assert found
    assert found.roles == {Role.VIEWER, Role.CREATOR}
    assert found.last_login_date


def test_roles_come_and_go(store: UserStore, user: User) -> None:
    for _ in range(2):  # the second time changes nothing
        store.add_role(user.user_id, Role.MODERATOR)
        assert _roles(store, user) == {Role.VIEWER, Role.MODERATOR}
    for _ in range(2):
        store.remove_role(user.user_id, Role.VIEWER)
        assert _roles(store, user) == {Role.MODERATOR}
    store.remove_role(user.user_id, Role.MODERATOR)
    assert _roles(store, user) == frozenset()


def test_changes_of_roles_made_at_once_all_count(store: UserStore, user: User) -> None:
    start = Barrier(8)

    def change(number: int) -> None:
        start.wait(10)
        if number % 2:
            store.add_role(user.user_id, [Role.CREATOR, Role.MODERATOR][number % 4 // 2])
        else:
            store.remove_role(user.user_id, Role.VIEWER)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(8)))
    assert _roles(store, user) == {Role.CREATOR, Role.MODERATOR}


def test_a_suspension_is_seen_at_the_next_read(harness: Harness, store: UserStore, user: User) -> None:
    harness.suspend(user.user_id)
    assert store.get(user.user_id) == replace(user, status=AccountStatus.SUSPENDED)


def test_records_a_login(store: UserStore, user: User) -> None:
    at = user.created_date + timedelta(days=1, milliseconds=1)
    store.record_login(user.user_id, at)
    assert store.get(user.user_id) == replace(user, last_login_date=at)


def test_a_hash_is_replaced_only_where_it_is_still_the_same(store: UserStore, user: User) -> None:
    newer = HASH.replace("$04$", "$05$")
    store.replace_password_hash(user.email.upper(), HASH, newer)
    store.replace_password_hash(user.email, HASH, "$2b$06$lost")
    store.replace_password_hash(an_address(), HASH, newer)
    credentials = store.find_credentials(user.email)
    assert credentials
    assert credentials.password_hash == newer


def test_a_call_whose_time_is_up_waits_for_nothing(store: UserStore) -> None:
    user = a_user()
    with deadline.within(0), pytest.raises(DeadlineExceeded):
        store.register(user, HASH)
    assert store.find_credentials(user.email) is None


def test_answers_a_ping(store: UserStore) -> None:
    store.ping()


def _roles(store: UserStore, user: User) -> frozenset[Role]:
    found = store.get(user.user_id)
    assert found
    return found.roles
