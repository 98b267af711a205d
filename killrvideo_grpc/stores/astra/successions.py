"""Which password replaced which. Only one change can follow each password: a new password or the deletion.

credential   <number>:<credential id>: the current password, or an earlier one from which `successors` leads to it
successors   {credential id: [successor, …]}; only the first successor of each counts

A successor is a new password, {credential: id, event: id}, or the deletion of the account, {event: id, at: date}.

On Cassandra a filter takes only one condition, so an update can't require that the password is still the one that was
checked. Instead, it appends to the successors of that password, and the after image shows whether it was the first.
Numbers increase along the chain, so a `$max` of `credential` can shorten it but never lead back to an older password.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The deletion of an account: its event and its date."""

    event_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Succession:
    """The result of following a document's successors.

    `credential` is the current password, or a deleted account's last one, and `number` its number. `passed` are the
    passwords before it in the chain, `events` the ids of the events whose changes form the chain.
    """

    number: int
    credential: str
    passed: tuple[str, ...] = ()
    events: frozenset[str] = frozenset()
    deletion: Deletion | None = None

    @property
    def start(self) -> str:
        """The value of the field `credential` once the chain is shortened to the current password."""
        return start(self.credential, self.number)

    def has_reached(self, credential_id: str) -> bool:
        """Returns whether the password is or was the current one, as far as the chain shows."""
        return credential_id == self.credential or credential_id in self.passed


def start(credential_id: str, number: int = 1) -> str:
    """Returns a value for the field `credential`. The number has leading zeros because `$max` compares text."""
    return f"{number:09}:{credential_id}"


def new_password(credential_id: str, event_id: str | None) -> Document:
    """Returns the successor that replaces a password with another one."""
    return {"credential": credential_id, "event": event_id}


def end(event_id: str, at: datetime) -> Document:
    """Returns the successor that deletes the account."""
    return {"event": event_id, "at": at}


def read(document: Document) -> Succession:
    """Follows the successors to the current password or the deletion."""
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
    """Yields the passwords in `successors`: those that were replaced, and all that tried to replace them."""
    for replaced, successors in (document.get("successors") or {}).items():
        yield replaced
        yield from (successor["credential"] for successor in successors if "credential" in successor)
