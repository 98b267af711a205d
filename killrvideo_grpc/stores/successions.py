"""Which password replaced which, so that only one change follows each password.

credential   <number>:<id of a password>: the current one, or one from which `successors` leads to it
successors   {id of a password: [successor, …]}; the first one counts

A successor is a new password, {credential: id, event: id}, or the deletion of the account, {event: id, at: date}.

A filter takes one condition on Cassandra, so an update can't say "if the password is still the one I checked". Instead
it appends to the successors of the password that it checked, and the image that comes back tells whether it was first.
Numbers grow along the way, so that `$max` can shorten it and never leads back to an older password.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The event that deleted an account, and when."""

    event_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Succession:
    """What a document's successors amount to.

    `credential` is the current password, or the last one of a deleted account. `passed` are the ones that led to it,
    and `events` the ids of the events that took effect on the way.
    """

    number: int
    credential: str
    passed: tuple[str, ...] = ()
    events: frozenset[str] = frozenset()
    deletion: Deletion | None = None

    @property
    def start(self) -> str:
        """Returns the field `credential` of a document whose successors have been followed."""
        return start(self.credential, self.number)

    def has_reached(self, credential_id: str) -> bool:
        """Says whether the password is the current one, or was on the way to it."""
        return credential_id == self.credential or credential_id in self.passed


def start(credential_id: str, number: int = 1) -> str:
    """Returns the field `credential`. Its numbers have leading zeros, since `$max` compares text."""
    return f"{number:09}:{credential_id}"


def new_password(credential_id: str, event_id: str | None) -> Document:
    """Returns the successor that replaces a password with another one."""
    return {"credential": credential_id, "event": event_id}


def end(event_id: str, at: datetime) -> Document:
    """Returns the successor that deletes the account."""
    return {"event": event_id, "at": at}


def read(document: Document) -> Succession:
    """Follows the successors."""
    number, credential = document["credential"].split(":", 1)
    if not document.get("successors"):
        return Succession(int(number), credential)
    left, passed, events = dict(document["successors"]), list[str](), set[str]()
    while successors := left.pop(credential, None):
        first = successors[0]
        events.add(first["event"])
        if "credential" not in first:
            deletion = Deletion(first["event"], first["at"])
            return Succession(int(number) + len(passed), credential, tuple(passed), frozenset(events), deletion)
        passed.append(credential)
        credential = first["credential"]
    return Succession(int(number) + len(passed), credential, tuple(passed), frozenset(events))


def mentioned(document: Document) -> Iterator[str]:
    """Lists the passwords in `successors`: those that were replaced, and all that ever tried to replace them."""
    for replaced, successors in (document.get("successors") or {}).items():
        yield replaced
        yield from (successor["credential"] for successor in successors if "credential" in successor)
