"""The account document: how an account, its sessions and its changes look in the collection `accounts`.

_id              account:<user id>
email            as typed; firstname, lastname
roles, status    as they were at the registration, and
history          what has changed them since: see histories.py
claim            id of the claim on its e-mail address
credential       the current password, and
successors       what has replaced it since: see successions.py
renewed          id of a password whose hash was renewed, perhaps after it was replaced
hashes           {credential id: bcrypt hash}
sessions         {session id: {credential, generation, created, refreshed, user_agent}}
ended            {session id: [event id, …]}: sessions that are about to be removed
outbox           {event id: event}: events not yet written to their tables
pending          true while the row, or a table of events, may lack something
version          counts the changes
created_date, last_login_date

A deleted account keeps its status, dates, and the successor that deleted it; `pending` and `claim` for some minutes.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, assert_never
from uuid import UUID

from killrvideo_grpc.domain.account import Account, Credentials, Session
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
from killrvideo_grpc.stores import histories, successions
from killrvideo_grpc.stores.data_api import Document, Update
from killrvideo_grpc.stores.email_claims import claim_id

PREFIX = "account:"
DELETED = "deleted"
ERASED: Document = {"status": DELETED, "roles": {}, "hashes": {}, "sessions": {}}
ERASED_FIELDS = ("email", "firstname", "lastname", "last_login_date", "renewed", "history", "ended")
# A request that was given up, by us or by the Data API, may still be carried out. For so long after a deletion, each
# sweep erases again what such a request has written.
SETTLING = timedelta(minutes=5)


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
        "claim": claim_id(account.email),
        "firstname": account.first_name,
        "lastname": account.last_name,
        "status": account.status.value,
        "roles": {role.value: True for role in account.roles},
        "credential": successions.start(account.credential_id),
        "hashes": {account.credential_id: password_hash},
        "sessions": {session.session_id: _session_entry(session) for session in account.sessions.values()},
        "outbox": {str(event.event_id): _event_entry(event, "other")},
        "created_date": account.created_date,
        "version": 1,
        "pending": True,
    }


def is_deleted(document: Document) -> bool:
    """Says whether the account was deleted. A status written by a change that raced with the deletion is no hint."""
    return successions.read(document).deletion is not None


def is_erased(document: Document) -> bool:
    """Says whether this is a deleted account that was erased before; something may have been written to it since."""
    return "email" not in document


def shows_moderator(document: Document | None) -> bool:
    """Says whether this is the document of an active moderator."""
    account = read_account(document)
    return account is not None and account.is_active_moderator


def read_account(document: Document | None) -> Account | None:
    """Returns the account; None if it was deleted, or there is no document."""
    if document is None:
        return None
    succession = successions.read(document)
    if succession.deletion:
        return None
    credential, state = succession.credential, histories.read_state(document)
    entries, ended = document.get("sessions") or {}, document.get("ended") or {}
    # Only sessions of the current password count. The others were opened with an older one, or are the rest of a
    # refresh that raced with the end of its session, which names no password at all.
    counting = {key for key, entry in entries.items() if entry.get("credential") == credential}
    return Account(
        user_id=user_id_of(document),
        email=document["email"],
        first_name=document["firstname"],
        last_name=document["lastname"],
        roles=state.roles,
        status=state.status,
        created_date=document["created_date"],
        credential_id=credential,
        last_login_date=document.get("last_login_date"),
        sessions={key: _read_session(key, entries[key]) for key in entries if key in counting and key not in ended},
        dead_sessions=frozenset(entries.keys() - counting - ended.keys()),
    )


def read_credentials(document: Document | None) -> Credentials | None:
    """Returns the account with the hash of its current password; None where `read_account` returns None."""
    account = read_account(document)
    if document is None or account is None:
        return None
    return Credentials(account, document["hashes"][account.credential_id])


def read_outbox(document: Document) -> list[Event]:
    """Returns the events that are still to be written to their tables: those of changes that had an effect."""
    user_id, entries = user_id_of(document), document.get("outbox") or {}
    followed, effects = successions.read(document).events, histories.read_state(document).effects
    ended, events = histories.ended_by(document), list[Event]()
    for event_id, entry in entries.items():
        event = _read_event(user_id, event_id, entry)
        match entry["kind"]:
            case "state" if event_id in effects:
                before, after = effects[event_id]
                events.append(replace(event, before=before, after=after))
            case "end" if event_id in ended:
                events.append(replace(event, before=",".join(ended[event_id])))
            case "succession" if event_id in followed:
                events.append(event)
            case "other":
                events.append(event)
    return events


def update_for(change: Change, event: Event | None) -> Update:
    """Returns the update that applies a change, and its event, in one atomic step.

    It marks the document `pending` when the row or the events change. Refreshing and ending sessions changes neither,
    and as the most frequent changes they should cost no projection. Renewing a hash changes neither too; but if it
    races with the deletion of the account and we crash, the mark lets a sweep find the hash in the deleted account.
    """
    event_id = str(event.event_id) if event else None
    update = _update_for(change, event_id)
    update["$inc"] = {"version": 1}
    if event:
        update.setdefault("$set", {})[f"outbox.{event_id}"] = _event_entry(event, _kind(change), _replacement(change))
    if is_projected(change, event):
        update.setdefault("$set", {})["pending"] = True
    return update


def _kind(change: Change) -> str:
    """Returns by what it is known whether an event's change had an effect, see `read_outbox`."""
    match change:
        case AssignRole() | RevokeRole() | SetStatus():
            return "state"
        case EndSessions():
            return "end"
        case ChangePassword():
            return "succession"
        case _:
            return "other"


def _replacement(change: Change) -> str | None:
    return change.session.credential_id if isinstance(change, ChangePassword) else None


def is_projected(change: Change, event: Event | None) -> bool:
    """Says whether the row or the tables of events have to follow a change, or its hash may have to be removed."""
    return event is not None or not isinstance(change, RefreshSession | EndSessions)


def came_first(change: Change, document: Document) -> bool:
    """Says whether a new password was the first to replace the previous one. The document is as the change left it."""
    if not isinstance(change, ChangePassword):
        return True
    return successions.read(document).has_reached(change.session.credential_id)


def deletion(account: Account, event: Event) -> Update:
    """Returns the update that deletes an account, unless its password has changed since it was read.

    From then on the account is missing; `clearing` erases what the document still holds.
    """
    entry = _event_entry(event, "succession")
    return {
        "$push": {f"successors.{account.credential_id}": successions.end(str(event.event_id), event.at)},
        "$set": {f"outbox.{event.event_id}": entry, "pending": True},
        "$inc": {"version": 1},
    }


def clearing(document: Document, at: datetime) -> Update:
    """Returns the update that takes from a document what it no longer needs, once all that derives from it is written.

    That is the mark `pending`, its outbox, and what belongs to passwords that are not the current one; of a deleted
    account, everything that must not stay. What came after the document was read is left as it is.
    """
    succession = successions.read(document)
    obsolete = {f"outbox.{event_id}" for event_id in document.get("outbox") or ()}
    obsolete |= {f"successors.{replaced}" for replaced in document.get("successors") or ()}
    update: Update = {"$max": {"credential": succession.start}} if document.get("successors") else {}
    if succession.deletion:
        obsolete |= set(ERASED_FIELDS)
        obsolete.remove(f"successors.{succession.credential}")  # which says that the account was deleted
        if at - succession.deletion.at > SETTLING:
            obsolete |= {"pending", "claim"}
        update["$set"] = ERASED
    else:
        account = read_account(document)
        credentials = {*successions.mentioned(document), *_replacements(document)} - {succession.credential}
        obsolete |= {"pending", "renewed", *(f"hashes.{credential}" for credential in credentials)}
        ended = set(document.get("ended") or ())
        obsolete |= {f"ended.{session_id}" for session_id in ended}
        obsolete |= {f"sessions.{session_id}" for session_id in ended.union(account.dead_sessions if account else ())}
    return update | {"$unset": dict.fromkeys(sorted(obsolete), "")}


def _replacements(document: Document) -> set[str]:
    """Returns the passwords that have tried to replace another one, and one whose hash was renewed."""
    entries = (document.get("outbox") or {}).values()
    renewed = {document["renewed"]} if "renewed" in document else set()
    return renewed.union(entry["credential"] for entry in entries if entry["credential"])


def _update_for(change: Change, event_id: str | None) -> Update:
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
            update = {"$max": {f"{path}.generation": generation, f"{path}.refreshed": at}}
        case EndSessions(session_ids):
            update = _ended_sessions(session_ids, event_id)
        case RenewHash(credential_id, password_hash):
            update = {"$set": {f"hashes.{credential_id}": password_hash, "renewed": credential_id}}
        case ChangePassword(previous, password_hash, session):
            credential = session.credential_id
            added = {f"hashes.{credential}": password_hash, f"sessions.{session.session_id}": _session_entry(session)}
            successor = successions.new_password(credential, event_id)
            update = {"$push": {f"successors.{previous}": successor}, "$set": added}
        case AssignRole() | RevokeRole() | SetStatus():
            update = {"$push": {"history": histories.entry(event_id, change)}}
        case _:
            assert_never(change)
    return update


def _ended_sessions(session_ids: frozenset[str], event_id: str | None) -> Update:
    if event_id is None or not session_ids:
        return _without_sessions(session_ids)
    return {"$push": {f"ended.{session_id}": event_id for session_id in session_ids}}


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


def _event_entry(event: Event, kind: str, credential_id: str | None = None) -> dict[str, Any]:
    return {
        "kind": kind,
        "credential": credential_id,
        "action": event.action.value,
        "actor": event.actor,
        "reason": event.reason,
        "request_id": event.request_id,
        "before": event.before,
        "after": event.after,
        "at": event.at,
    }


def _read_event(user_id: UUID, event_id: str, entry: dict[str, Any]) -> Event:
    return Event(
        action=Action(entry["action"]),
        actor=entry["actor"],
        account=user_id,
        reason=entry["reason"],
        request_id=entry["request_id"],
        before=entry["before"],
        after=entry["after"],
        at=entry["at"],
        event_id=UUID(event_id),
    )
