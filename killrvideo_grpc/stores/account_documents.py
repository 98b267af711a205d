"""The account document: how an account, its sessions and its changes look in the collection `accounts`.

_id              account:<user id>
email            as typed; firstname, lastname
status           active, suspended, or deleted
roles            {role: true}
credential       id of the current password
hashes           {credential id: bcrypt hash}
sessions         {session id: {credential, generation, created, refreshed, user_agent}}
outbox           {event id: event}: events not yet written to their tables
pending          true while the row, or a table of events, may lack something
version          counts the changes
created_date, last_login_date
deletions        ids of the events that deleted the account, the one that did it first; only in a deleted account
releasing        id of the e-mail claim that is still to be released; only in a deleted account
"""

from typing import Any, assert_never
from uuid import UUID

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role, Session, read_roles, read_status
from killrvideo_grpc.domain.changes import (
    Action,
    AssignRole,
    Change,
    ChangePassword,
    EndSessions,
    Event,
    OpenSession,
    RefreshSession,
    Rename,
    RenewHash,
    RevokeRole,
    SetStatus,
)
from killrvideo_grpc.stores.data_api import Document, Update

PREFIX = "account:"
DELETED = "deleted"
# What erases a deleted account. Whoever wrote to it at the same moment, or projects it, applies this again.
ERASED: Document = {"status": DELETED, "roles": {}, "hashes": {}, "sessions": {}}
ERASED_FIELDS = ("email", "firstname", "lastname", "credential", "last_login_date")


def document_id(user_id: UUID) -> str:
    """Returns the `_id` of an account's document."""
    return f"{PREFIX}{user_id}"


def user_id_of(document: Document) -> UUID:
    """Returns the user id of an account's document."""
    return UUID(document["_id"].removeprefix(PREFIX))


def new_document(account: Account, password_hash: str, event: Event) -> Document:
    """Returns the document of a new account, whose row and event are still to be written."""
    return {
        "_id": document_id(account.user_id),
        "email": account.email,
        "firstname": account.first_name,
        "lastname": account.last_name,
        "status": account.status.value,
        "roles": {role.value: True for role in account.roles},
        "credential": account.credential_id,
        "hashes": {account.credential_id: password_hash},
        "sessions": {session.session_id: _session_entry(session) for session in account.sessions.values()},
        "outbox": {str(event.event_id): _event_entry(event)},
        "created_date": account.created_date,
        "version": 1,
        "pending": True,
    }


def is_deleted(document: Document) -> bool:
    """Says whether the account was deleted. A status written by a change that raced with the deletion is no hint."""
    return bool(document.get("deletions"))


def is_moderator(account: Account) -> bool:
    """Says whether the account is an active moderator: a suspended one does not count."""
    return account.status is AccountStatus.ACTIVE and Role.MODERATOR in account.roles


def shows_moderator(document: Document | None) -> bool:
    """Says whether this is the document of an active moderator."""
    account = read_account(document)
    return account is not None and is_moderator(account)


def read_account(document: Document | None) -> Account | None:
    """Returns the account; None if it was deleted, or there is no document."""
    if document is None or is_deleted(document):
        return None
    credential = document["credential"]
    entries = document.get("sessions") or {}
    # Only sessions of the current password count. The others were opened with an older one, or are the rest of a
    # refresh that raced with the end of its session, which names no password at all.
    living = {key: entry for key, entry in entries.items() if entry.get("credential") == credential}
    return Account(
        user_id=user_id_of(document),
        email=document["email"],
        first_name=document["firstname"],
        last_name=document["lastname"],
        roles=read_roles(document.get("roles") or ()),
        status=read_status(document.get("status")),
        created_date=document["created_date"],
        credential_id=credential,
        last_login_date=document.get("last_login_date"),
        sessions={key: _read_session(key, entry) for key, entry in living.items()},
        dead_sessions=frozenset(entries.keys() - living.keys()),
    )


def read_credentials(document: Document | None) -> Credentials | None:
    """Returns the account with the hash of its current password; None where `read_account` returns None."""
    account = read_account(document)
    if document is None or account is None:
        return None
    return Credentials(account, document["hashes"][account.credential_id])


def read_outbox(document: Document) -> list[Event]:
    """Returns the events that are still to be written to their tables."""
    user_id = user_id_of(document)
    return [_read_event(user_id, key, entry) for key, entry in (document.get("outbox") or {}).items()]


def update_for(change: Change, event: Event | None) -> Update:
    """Returns the update that applies a change, and its event, in one atomic step.

    It marks the document `pending` when the row or the events change. Refreshing and ending sessions changes neither,
    and as the most frequent changes they should cost no projection. Renewing a hash changes neither too; but if it
    races with the deletion of the account and we crash, the mark lets a sweep find the hash in the deleted account.
    """
    update = _update_for(change)
    update["$inc"] = {"version": 1}
    if event:
        update.setdefault("$set", {})[f"outbox.{event.event_id}"] = _event_entry(event)
    if event or not isinstance(change, RefreshSession | EndSessions):
        update.setdefault("$set", {})["pending"] = True
    return update


def deletion(event: Event, claim: str) -> Update:
    """Returns the update that deletes an account and leaves to the projection what lies outside its document."""
    entry = {f"outbox.{event.event_id}": _event_entry(event)}
    return {
        "$set": {**ERASED, **entry, "releasing": claim, "pending": True},
        "$unset": dict.fromkeys(ERASED_FIELDS, ""),
        "$push": {"deletions": str(event.event_id)},
        "$inc": {"version": 1},
    }


def erasure(event: Event | None) -> Update:
    """Returns the update that takes back what a change wrote to a deleted account, its event included."""
    fields = [*ERASED_FIELDS, *([f"outbox.{event.event_id}"] if event else [])]
    return {"$set": {**ERASED, "pending": True}, "$unset": dict.fromkeys(fields, ""), "$inc": {"version": 1}}


def _update_for(change: Change) -> Update:
    update: Update
    match change:
        case Rename(first_name, last_name):
            names = {"firstname": first_name, "lastname": last_name}
            update = {"$set": {field: name for field, name in names.items() if name is not None}}
        case OpenSession(session, removed):
            entry = {f"sessions.{session.session_id}": _session_entry(session)}
            update = {"$set": entry | {"last_login_date": session.created_date}} | _without_sessions(removed)
        case RefreshSession(session_id, generation, at):
            path = f"sessions.{session_id}"
            update = {"$max": {f"{path}.generation": generation}, "$set": {f"{path}.refreshed": at}}
        case EndSessions(session_ids):
            update = _without_sessions(session_ids)
        case RenewHash(credential_id, password_hash):
            update = {"$set": {f"hashes.{credential_id}": password_hash}}
        case ChangePassword(password_hash=password_hash, session=session):
            # The old hash goes with all others, and so does one that a renewal left behind.
            credential = session.credential_id
            sessions = {session.session_id: _session_entry(session)}
            update = {"$set": {"credential": credential, "hashes": {credential: password_hash}, "sessions": sessions}}
        case AssignRole(role):
            update = {"$set": {f"roles.{role.value}": True}}
        case RevokeRole(role):
            update = {"$unset": {f"roles.{role.value}": ""}}
        case SetStatus(status):
            update = {"$set": {"status": status.value}}
        case _:
            assert_never(change)
    return update


def _without_sessions(session_ids: frozenset[str]) -> Update:
    return {"$unset": {f"sessions.{session_id}": "" for session_id in session_ids}} if session_ids else {}


def _session_entry(session: Session) -> Document:
    return {
        "credential": session.credential_id,
        "generation": session.generation,
        "created": session.created_date,
        "refreshed": session.refreshed_date,
        "user_agent": session.user_agent,
    }


def _read_session(session_id: str, entry: Document) -> Session:
    return Session(
        session_id=session_id,
        credential_id=entry["credential"],
        generation=entry["generation"],
        created_date=entry["created"],
        refreshed_date=entry["refreshed"],
        user_agent=entry.get("user_agent", ""),
    )


def _event_entry(event: Event) -> dict[str, Any]:
    return {
        "action": event.action.value,
        "actor": event.actor,
        "reason": event.reason,
        "request_id": event.request_id,
        "before": event.before,
        "after": event.after,
        "at": event.at,
    }


def _read_event(user_id: UUID, event_id: str, entry: dict[str, Any]) -> Event:
    fields = {**entry, "action": Action(entry["action"])}
    return Event(account=user_id, event_id=UUID(event_id), **fields)
