"""The updates of an account's document: each change is one, applied atomically, and so is the clearing up after it."""

from datetime import datetime, timedelta
from typing import assert_never

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.changes import (
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
from killrvideo_grpc.stores.account_documents import event_entry, is_deleted, new_mark, read_account, session_entry
from killrvideo_grpc.stores.data_api import Document, Update

DELETED = "deleted"
ERASED: Document = {"status": DELETED, "roles": {}, "hashes": {}, "sessions": {}}
ERASED_FIELDS = ("email", "firstname", "lastname", "last_login_date", "renewed", "history", "ended", "sources")
# A request that was given up, by us or by the Data API, may still be carried out. For so long after a deletion, each
# sweep erases again what such a request has written.
SETTLING = timedelta(minutes=5)


def update_for(change: Change, event: Event | None) -> Update:
    """Returns the update that applies a change, and its event, in one atomic step.

    It also gives the document a new mark `pending`, except for the most frequent change: refreshing a session leaves
    nothing to do afterwards.
    """
    event_id = str(event.event_id) if event else None
    update = _update_for(change, event_id)
    update["$inc"] = {"version": 1}
    if event:
        update.setdefault("$set", {})[f"outbox.{event_id}"] = event_entry(event, _kind(change), _replacement(change))
    if is_projected(change, event):
        update.setdefault("$set", {})["pending"] = new_mark()
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
    """Says whether a change leaves something to do: the row or events to be written, or the document to be cleared."""
    return event is not None or not isinstance(change, RefreshSession)


def came_first(change: Change, document: Document) -> bool:
    """Says whether a new password was the first to replace the previous one. The document is as the change left it."""
    if not isinstance(change, ChangePassword):
        return True
    return successions.read(document).has_reached(change.session.credential_id)


def ends_any(change: EndSessions, document: Document) -> bool:
    """Says whether one of the sessions was of the current password. A new password had ended the others before."""
    credential, sessions = successions.read(document).credential, document.get("sessions") or {}
    return any(sessions.get(session_id, {}).get("credential") == credential for session_id in change.session_ids)


def deletion(account: Account, event: Event) -> Update:
    """Returns the update that deletes an account, unless its password has changed since it was read.

    From then on the account is missing; `clearing` erases what the document still holds.
    """
    entry = event_entry(event, "succession")
    return {
        "$push": {
            f"successors.{account.credential_id}": successions.end(str(event.event_id), event.at),
            "history": histories.end_entry(str(event.event_id)),
        },
        "$set": {f"outbox.{event.event_id}": entry, "pending": new_mark()},
        "$inc": {"version": 1},
    }


def clearing(document: Document, at: datetime) -> Update:
    """Returns the update that takes from a document what it no longer needs, once all that derives from it is written.

    That is its outbox, ended sessions, and what belongs to passwords that are not the current one; for a deleted
    account, everything that must not stay. What was added after the document was read stays. So does the mark
    `pending`, which may only go if nothing was added: see `with_mark`.
    """
    succession = successions.read(document)
    obsolete = {f"outbox.{event_id}" for event_id in document.get("outbox") or ()}
    obsolete |= {f"successors.{replaced}" for replaced in document.get("successors") or ()}
    update: Update = {"$max": {"credential": succession.start}} if document.get("successors") else {}
    if succession.deletion:
        obsolete |= set(ERASED_FIELDS)
        obsolete.remove(f"successors.{succession.credential}")  # which says that the account was deleted
        if has_settled(document, at):
            obsolete.add("claim")
        update["$set"] = ERASED
    else:
        account = read_account(document)
        credentials = {*successions.mentioned(document), *_replacements(document)} - {succession.credential}
        obsolete |= {"renewed", *(f"hashes.{credential}" for credential in credentials)}
        ended = set(document.get("ended") or ())
        obsolete |= {f"ended.{session_id}" for session_id in ended}
        obsolete |= {f"sessions.{session_id}" for session_id in ended.union(account.dead_sessions if account else ())}
    return update | {"$unset": dict.fromkeys(sorted(obsolete), "")}


def with_mark(update: Update, document: Document) -> Update:
    """Returns a clearing that also removes the mark `pending` and shortens a full history.

    It may only reach the document as it was read, so it needs the mark as its filter.
    """
    whole = update | {"$unset": {**update["$unset"], "pending": ""}}
    fields = {} if is_deleted(document) else histories.shortened(document)
    return whole | {"$set": {**update.get("$set", {}), **fields}} if fields else whole


def has_settled(document: Document, at: datetime) -> bool:
    """Says whether the document needs no further sweep once it is cleared. A deleted account does for some minutes."""
    deletion = successions.read(document).deletion
    return deletion is None or at - deletion.at > SETTLING


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
        case OpenSession(session, removed, source, forgotten):
            entry = {f"sessions.{session.session_id}": session_entry(session), "last_login_date": session.created_date}
            entry |= {f"sources.{source}": session.created_date} if source else {}
            update = {"$set": entry} | _ended(removed, None)
            update |= {"$unset": {f"sources.{each}": "" for each in forgotten}} if forgotten else {}
        case RefreshSession(session_id, generation, at):
            path = f"sessions.{session_id}"
            update = {"$max": {f"{path}.generation": generation, f"{path}.refreshed": at}}
        case EndSessions(session_ids):
            update = _ended(session_ids, event_id)
        case RenewHash(credential_id, password_hash):
            update = {"$set": {f"hashes.{credential_id}": password_hash, "renewed": credential_id}}
        case ChangePassword(previous, password_hash, session):
            credential = session.credential_id
            added = {f"hashes.{credential}": password_hash, f"sessions.{session.session_id}": session_entry(session)}
            successor = successions.new_password(credential, event_id)
            update = {"$push": {f"successors.{previous}": successor}, "$set": added}
        case AssignRole() | RevokeRole() | SetStatus():
            update = {"$push": {"history": histories.entry(event_id, change)}}
        case _:
            assert_never(change)
    return update


def _ended(session_ids: frozenset[str], event_id: str | None) -> Update:
    """Ends sessions. They are removed when the document is cleared: until then it shows what has ended them."""
    entry = event_id or histories.NO_EVENT
    return {"$push": {f"ended.{session_id}": entry for session_id in session_ids}} if session_ids else {}
