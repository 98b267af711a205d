"""The account document in the collection `accounts`.

_id              account:<user id>
revision         random, new at each write: what a compare-and-set requires
recent           the last revisions before it, newest first
email            as typed; firstname, lastname
status, roles    as in the contract; values that this version doesn't know are kept
credential       names the current password
password_hash    its bcrypt hash, read only to check a password
sessions         {session id: {generation, created, refreshed, user_agent}}
sources          {digest of a source: date of the last login from there}
reset_code       {digest, expires_at, by_operator}: of the code that may set a new password
unblocked_date   failed attempts before it don't count
outbox           events that are not yet in their tables
last_event       the date of the latest event
pending          what is left to be written to the row and the tables: PROJECT, PROJECT_TWICE or SETTLE
row_changed      when visible columns of the row changed, until it has settled
claim            `_id` of the claim on the address; missing without an address
written          when the document was made
created_date, last_login_date

A deleted account keeps its id, revisions, status and dates, an empty hash and, until it has settled, what is pending.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from killrvideo_grpc.domain.account import (
    Account,
    Credentials,
    ResetCode,
    Role,
    Session,
    now,
    read_roles,
    read_status,
)
from killrvideo_grpc.domain.changes import Transition
from killrvideo_grpc.domain.events import Event, read_action
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.astra.revisions import new_revision
from killrvideo_grpc.stores.data_api.client import Document

PREFIX = "account:"
DELETED = "deleted"
RECENT = 20  # revisions kept, to recognise a write whose answer was lost

# The values of `pending`. Rows have no compare-and-set, so a changed row is written again once no older one can arrive.
PROJECT = "project"  # write row and events
PROJECT_TWICE = "project twice"  # the same, then SETTLE
SETTLE = "settle"  # write the row again, SETTLE_TIME (sweep.py) after `row_changed`

_KEPT = ("_id", "revision", "recent", "written", "created_date", "last_login_date", "outbox", "claim")
_VISIBLE = ("email", "firstname", "lastname", "status")  # columns of the row other than dates


def document_id(user_id: UUID) -> str:
    """Return the `_id` of an account's document."""
    return f"{PREFIX}{user_id}"


def user_id_of(document: Document) -> UUID:
    """Return the user id of an account's document."""
    return UUID(document["_id"].removeprefix(PREFIX))


def new_document(account: Account, password_hash: str, event: Event) -> Document:
    """Return the document of a new account."""
    return {
        "_id": document_id(account.user_id),
        "revision": new_revision(),
        "recent": [],
        **_fields(account),
        "roles": sorted(account.roles),
        "password_hash": password_hash,
        "sessions": {key: _session_entry(session) for key, session in account.sessions.items()},
        "outbox": [_event_entry(event)],
        "last_event": event.at,
        "pending": PROJECT,
        **({"claim": claim_id(account.email)} if account.email else {}),
        "written": now(),
    }


def with_new_revision(document: Document) -> Document:
    """Return the document with a new revision and the old one among the recent ones."""
    recent = [document["revision"], *document["recent"]][:RECENT]
    return document | {"revision": new_revision(), "recent": recent}


def document_after(document: Document, before: Account, transition: Transition) -> Document:
    """Return the document after a transition of `before`, which was read from it."""
    new, after = with_new_revision(document), transition.account
    if after is None:
        # The hash was not read, so name it to erase it.
        new = {name: new[name] for name in _KEPT if name in new} | {"status": DELETED, "password_hash": ""}
    else:
        new |= _changed_fields(document, before, after)
        for name in _fields(before).keys() - _fields(after).keys():
            new.pop(name, None)
    if transition.password_hash is not None:
        new["password_hash"] = transition.password_hash
    if transition.event:
        event = transition.event.after_latest(document.get("last_event"))
        new["outbox"] = [*document.get("outbox", ()), _event_entry(event)]
        new["last_event"] = event.at
    return new | _pending_after(document, new)


def projected(document: Document) -> Document:
    """Return the document after its row and events have been written."""
    new = {name: value for name, value in with_new_revision(document).items() if name not in ("outbox", "pending")}
    return new | ({"pending": SETTLE} if document.get("pending") in (PROJECT_TWICE, SETTLE) else {})


def settled(document: Document) -> Document:
    """Return the document after its row has been written again."""
    gone = {"pending", "row_changed", "claim"} if is_deleted(document) else {"pending", "row_changed"}
    return {name: value for name, value in with_new_revision(document).items() if name not in gone}


def is_deleted(document: Document) -> bool:
    """Return whether the account was deleted."""
    return bool(document["status"] == DELETED)


def uses_claim(document: Document | None, claim: str) -> bool:
    """Return whether this is an account that uses the address of this claim."""
    return document is not None and not is_deleted(document) and document.get("claim") == claim


def is_active_moderator(document: Document | None) -> bool:
    """Return whether this is the document of an active moderator."""
    account = read_account(document)
    return account is not None and account.is_active_moderator


def read_account(document: Document | None) -> Account | None:
    """Return the account; None if it was deleted or there is no document."""
    if document is None or is_deleted(document):
        return None
    return Account(
        user_id=user_id_of(document),
        email=document["email"],
        first_name=document["firstname"],
        last_name=document["lastname"],
        roles=read_roles(document.get("roles") or ()),
        status=read_status(document["status"]),
        created_date=document["created_date"],
        credential_id=document["credential"],
        last_login_date=document.get("last_login_date"),
        sessions={key: _read_session(key, entry) for key, entry in document["sessions"].items()},
        sources=document["sources"],
        reset_code=_read_reset_code(document.get("reset_code")),
        unblocked_date=document.get("unblocked_date"),
        stored=document,
    )


def read_credentials(document: Document | None) -> Credentials | None:
    """Return the account with the hash of its password; None if `read_account` returns None."""
    account = read_account(document)
    return Credentials(account, document["password_hash"]) if document and account else None


def read_outbox(document: Document) -> list[Event]:
    """Return the events that are not yet in their tables, oldest first."""
    return [_read_event(user_id_of(document), entry) for entry in document.get("outbox", ())]


def _fields(account: Account) -> Document:
    """Return the fields other than roles and sessions, without missing ones."""
    fields: dict[str, Any] = {
        "email": account.email,
        "firstname": account.first_name,
        "lastname": account.last_name,
        "status": account.status.value,
        "credential": account.credential_id,
        "sources": dict(account.sources),
        "created_date": account.created_date,
        "last_login_date": account.last_login_date,
        "unblocked_date": account.unblocked_date,
        "reset_code": _reset_code_entry(account.reset_code),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _changed_fields(document: Document, before: Account, after: Account) -> Document:
    """Return the fields that differ. Keep roles and session fields that only a newer version knows."""
    old = _fields(before)
    changed: Document = {name: value for name, value in _fields(after).items() if old.get(name) != value}
    if claim_id(after.email) != claim_id(before.email):
        changed["claim"] = claim_id(after.email)
    if after.roles != before.roles:
        unknown = set(document["roles"]) - {role.value for role in Role}
        changed["roles"] = sorted({*unknown, *after.roles})
    if after.sessions != before.sessions:
        entries = document["sessions"]
        changed["sessions"] = {
            key: entries.get(key, {}) | _session_entry(session) for key, session in after.sessions.items()
        }
    return changed


def _pending_after(document: Document, new: Document) -> Document:
    stage = document.get("pending")
    if any(document.get(name) != new.get(name) for name in _VISIBLE):
        return {"pending": PROJECT_TWICE, "row_changed": now()}
    if any(document.get(name) != new.get(name) for name in ("outbox", "last_login_date")):
        stage = PROJECT_TWICE if stage in (PROJECT_TWICE, SETTLE) else PROJECT
    return {"pending": stage} if stage else {}


def _session_entry(session: Session) -> Document:
    return {
        "generation": session.generation,
        "created": session.created_date,
        "refreshed": session.refreshed_date,
        "user_agent": session.user_agent,
    }


def _read_session(session_id: str, entry: Mapping[str, Any]) -> Session:
    return Session(session_id, entry["generation"], entry["created"], entry["refreshed"], entry["user_agent"])


def _reset_code_entry(code: ResetCode | None) -> Document | None:
    if code is None:
        return None
    return {"digest": code.digest, "expires_at": code.expires_at, "by_operator": code.by_operator}


def _read_reset_code(entry: Mapping[str, Any] | None) -> ResetCode | None:
    return ResetCode(entry["digest"], entry["expires_at"], entry["by_operator"]) if entry else None


def _event_entry(event: Event) -> Document:
    return {
        "event_id": str(event.event_id),
        "action": str(event.action),
        "actor": event.actor,
        "reason": event.reason,
        "request_id": event.request_id,
        "before": event.before,
        "after": event.after,
        "at": event.at,
    }


def _read_event(user_id: UUID, entry: Mapping[str, Any]) -> Event:
    return Event(
        action=read_action(entry["action"]),
        account=user_id,
        actor=entry["actor"],
        reason=entry["reason"],
        request_id=entry["request_id"],
        before=entry["before"],
        after=entry["after"],
        at=entry["at"],
        event_id=UUID(entry["event_id"]),
    )
