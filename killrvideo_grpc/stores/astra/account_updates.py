"""Updates of the account document. Each change is one atomic update, and so is clearing the document after it."""

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
from killrvideo_grpc.stores.astra import histories, successions
from killrvideo_grpc.stores.astra.document import event_entry, is_deleted, new_mark, read_account, session_entry
from killrvideo_grpc.stores.data_api.client import Document, Update

DELETED = "deleted"
ERASED: Document = {"status": DELETED, "roles": {}, "hashes": {}, "sessions": {}}
ERASED_FIELDS = ("email", "firstname", "lastname", "last_login_date", "renewed", "history", "ended", "sources")
# A request that timed out, here or in the Data API, may still be carried out later. For this long after a deletion,
# sweeps keep erasing what such requests write.
SETTLING = timedelta(minutes=5)


def update_for(change: Change, event: Event | None) -> Update:
    """Returns the update that applies a change and stores its event, in one atomic step.

    It also sets a new `pending` mark, except for the most frequent change: a session refresh needs no further work.
    """
    event_id = str(event.event_id) if event else None
    update = _update_for(change, event_id)
    update["$inc"] = {"version": 1}
    if event:
        update.setdefault("$set", {})[f"outbox.{event_id}"] = event_entry(event, _kind(change), _replacement(change))
    if needs_projection(change, event):
        update.setdefault("$set", {})["pending"] = new_mark()
    return update


def _kind(change: Change) -> str:
    """Returns the event's kind, by which `read_outbox` determines whether the change had an effect."""
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


def needs_projection(change: Change, event: Event | None) -> bool:
    """Returns whether the change needs work afterwards: writing the row or events, or clearing the document."""
    return event is not None or not isinstance(change, RefreshSession)


def was_accepted(change: Change, document: Document) -> bool:
    """Returns whether a change was accepted: a new password must be the first to replace the previous one.

    `document` is the after image.
    """
    if not isinstance(change, ChangePassword):
        return True
    return successions.read(document).has_reached(change.session.credential_id)


def ends_any(change: EndSessions, document: Document) -> bool:
    """Returns whether any of the sessions was live. Those opened with an older password had already ended."""
    credential, sessions = successions.read(document).credential, document.get("sessions") or {}
    return any(sessions.get(session_id, {}).get("credential") == credential for session_id in change.session_ids)


def deletion(account: Account, event: Event) -> Update:
    """Returns the update that deletes an account, unless its password has changed since `account` was read.

    After it the account counts as missing; `clearing` then erases the data that is still in the document.
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
    """Returns the update that removes what a document no longer needs, once its row and events have been written.

    This removes the outbox, ended sessions and everything that belongs to passwords other than the current one; for a
    deleted account, all personal data. It leaves whatever was added after `document` was read. It also leaves the
    `pending` mark, which may only be removed if nothing was added: see `clearing_mark`.
    """
    succession = successions.read(document)
    obsolete = {f"outbox.{event_id}" for event_id in document.get("outbox") or ()}
    obsolete |= {f"successors.{replaced}" for replaced in document.get("successors") or ()}
    update: Update = {"$max": {"credential": succession.start}} if document.get("successors") else {}
    if succession.deletion:
        obsolete |= set(ERASED_FIELDS)
        obsolete.remove(f"successors.{succession.credential}")  # the record of the deletion itself
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


def clearing_mark(update: Update, document: Document) -> Update:
    """Returns a `clearing` update that also removes the `pending` mark and shortens a full history.

    Must be applied with the mark as its filter, so that it has no effect if the document has changed since it was read.
    """
    fields = {**update.get("$set", {}), **({} if is_deleted(document) else histories.shortened(document))}
    return update | {"$unset": {**update["$unset"], "pending": ""}} | ({"$set": fields} if fields else {})


def has_settled(document: Document, at: datetime) -> bool:
    """Returns whether the document needs no more sweeps once cleared. A deleted account needs them for SETTLING."""
    deletion = successions.read(document).deletion
    return deletion is None or at - deletion.at > SETTLING


def _replacements(document: Document) -> set[str]:
    """Returns the passwords that any change tried to set, and the one that was last rehashed."""
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
    """Marks sessions as ended. Clearing removes them; until then the document records which event ended them."""
    entry = event_id or histories.NO_EVENT
    return {"$push": {f"ended.{session_id}": entry for session_id in session_ids}} if session_ids else {}
