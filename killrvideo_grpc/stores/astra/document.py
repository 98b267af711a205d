"""The account document: how an account, its sessions and its changes are stored in the collection `accounts`.

_id              account:<user id>
email            as typed; firstname, lastname
roles, status    their values before the changes in `history`
history          the changes made to them since then: see histories.py
claim            `_id` of the claim on the e-mail address
credential       the password that the chain in `successors` starts from
successors       the passwords that followed it, or the deletion: see successions.py
renewed          the credential id whose hash was last renewed, even if a new password had already replaced it
hashes           {credential id: bcrypt hash}
sessions         {session id: {credential, generation, created, refreshed, user_agent}}
sources          {digest of a source: date of the last login from there}
ended            {session id: [event id, …]}: sessions that have ended and are yet to be removed
outbox           {event id: event}: events not yet written to their tables
pending          a random mark, present while the row or events are still to be written or the document to be cleared.
                 Each change sets a new mark, so that a process removes only the mark of the state that it has projected
version          number of changes so far
created_date, last_login_date

A deleted account keeps its status, dates and the successor that deleted it, and for some minutes `pending` and `claim`.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import Account, Credentials, Session
from killrvideo_grpc.domain.changes import (
    Action,
    Event,
    role_names,
)
from killrvideo_grpc.stores.astra import histories, successions
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.data_api.client import Document

PREFIX = "account:"


def document_id(user_id: UUID) -> str:
    """Returns the `_id` of an account's document."""
    return f"{PREFIX}{user_id}"


def user_id_of(document: Document) -> UUID:
    """Returns the user id of an account's document."""
    return UUID(document["_id"].removeprefix(PREFIX))


def new_document(account: Account, password_hash: str, event: Event) -> Document:
    """Returns the document of a new account, marked as pending because its row and event are still to be written."""
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
        "sessions": {session.session_id: session_entry(session) for session in account.sessions.values()},
        "sources": dict(account.sources),
        "outbox": {str(event.event_id): event_entry(event, "other")},
        "created_date": account.created_date,
        "version": 1,
        "pending": new_mark(),
    }


def new_mark() -> str:
    """Returns a unique value for `pending`."""
    return uuid4().hex


def is_deleted(document: Document) -> bool:
    """Returns whether the account was deleted. Ignores `status`: a change racing with the deletion may have set it."""
    return successions.read(document).deletion is not None


def is_erased(document: Document) -> bool:
    """Returns whether a deleted account's data has been erased. Late writes may have added some again since."""
    return "email" not in document


def shows_moderator(document: Document | None) -> bool:
    """Returns whether this is the document of an active moderator."""
    account = read_account(document)
    return account is not None and account.is_active_moderator


def read_account(document: Document | None) -> Account | None:
    """Returns the account; None if it was deleted or there is no document."""
    if document is None:
        return None
    succession = successions.read(document)
    if succession.deletion:
        return None
    credential, state = succession.credential, histories.read_state(document)
    entries, ended = document.get("sessions") or {}, document.get("ended") or {}
    # Only sessions of the current password count. Others were opened with an older password, or are fragments without
    # a password, left by a refresh that raced with the end of its session.
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
        sources=document.get("sources") or {},
    )


def read_credentials(document: Document | None) -> Credentials | None:
    """Returns the account with the hash of its current password; None if `read_account` returns None."""
    account = read_account(document)
    if document is None or account is None:
        return None
    return Credentials(account, document["hashes"][account.credential_id])


def read_outbox(document: Document) -> list[Event]:
    """Returns the events still to be written to their tables. Leaves out those of changes that had no effect."""
    user_id, entries = user_id_of(document), document.get("outbox") or {}
    followed, effects = successions.read(document).events, histories.read_state(document).effects
    ended, deletion, events = histories.ended_by(document), successions.read(document).deletion, list[Event]()
    for event_id, entry in entries.items():
        event = _read_event(user_id, event_id, entry)
        match entry["kind"]:
            case "state" if event_id in effects:
                before, after = effects[event_id]
                events.append(replace(event, before=before, after=after))
            case "end" if event_id in ended and not (deletion and event.at > deletion.at):
                events.append(replace(event, before=",".join(ended[event_id])))
            case "succession" if deletion and event_id == deletion.event_id:
                events.append(replace(event, before=role_names(histories.read_state(document).roles)))
            case "succession" if event_id in followed:
                events.append(event)
            case "other":
                events.append(event)
    return events


def session_entry(session: Session) -> Document:
    """Returns a session in the form stored in `sessions`."""
    return {
        "credential": session.credential_id,
        "generation": session.generation,
        "created": session.created_date,
        "refreshed": session.refreshed_date,
        "user_agent": session.user_agent,
    }


def event_entry(event: Event, kind: str, credential_id: str | None = None) -> Document:
    """Returns an event in the form stored in `outbox`. `read_outbox` uses `kind` to see if its change had an effect."""
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


def _read_session(session_id: str, entry: Document) -> Session:
    return Session(
        session_id=session_id,
        credential_id=entry["credential"],
        generation=entry["generation"],
        created_date=entry["created"],
        refreshed_date=entry["refreshed"],
        user_agent=entry.get("user_agent", ""),
    )


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
