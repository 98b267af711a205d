"""Which changes of a document had an effect. Of several identical changes made at once, only the first does.

roles     {role: true}, the roles before the changes in `history`
status    the status before the changes in `history`
history   later changes of roles and status, in order: `<event id> +creator`, `<event id> -viewer`,
          `<event id> suspended`, `<event id> deleted`
sessions  {session id: …}
ended     {session id: [event id or `-`, …]}: events that tried to end the session; the first one did

An update can't tell whether it changes anything. So each change is appended to a list, and reading the list in order
shows which changes had an effect.
"""

from dataclasses import dataclass
from typing import Any

from killrvideo_grpc.domain.account import AccountStatus, Role, read_roles, read_status
from killrvideo_grpc.domain.changes import AssignRole, RevokeRole, SetStatus, role_names
from killrvideo_grpc.stores.astra import successions

Document = dict[str, Any]
NO_EVENT = "-"
DELETED = "deleted"
# The document must stay small, because every call with a token reads it. So a history longer than FULL is cut to its
# last KEPT entries. Those are enough to recognise a request that was repeated after a lost answer.
FULL, KEPT = 200, 100


@dataclass(frozen=True, slots=True)
class State:
    """An account's roles and status. `effects` has the values before and after each effective event, by event id."""

    roles: frozenset[Role]
    status: AccountStatus
    effects: dict[str, tuple[str, str]]


def entry(event_id: str | None, change: AssignRole | RevokeRole | SetStatus) -> str:
    """Returns the history entry of a change."""
    match change:
        case AssignRole(role):
            what = f"+{role.value}"
        case RevokeRole(role):
            what = f"-{role.value}"
        case SetStatus(status):
            what = status.value
    return f"{event_id or NO_EVENT} {what}"


def read_state(document: Document) -> State:
    """Applies the history to the stored roles and status."""
    roles, status = read_roles(document.get("roles") or ()), read_status(document.get("status"))
    deletion = successions.read(document).deletion
    effects: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    for item in document.get("history") or ():
        event_id, what = item.split(" ", 1)
        if deletion and event_id == deletion.event_id:
            break  # nothing changes a deleted account
        if event_id in seen:
            continue  # the same request, repeated after its answer was lost
        seen |= {event_id} - {NO_EVENT}
        if what == DELETED:
            continue  # a deletion that had no effect
        if what[0] in "+-":
            role = read_roles([what[1:]])
            following = roles | role if what[0] == "+" else roles - role
            if following != roles:
                effects[event_id] = (role_names(roles), role_names(following))
                roles = following
        elif (following_status := read_status(what)) is not status:
            effects[event_id] = (status.value, following_status.value)
            status = following_status
    return State(roles, status, effects)


def shortened(document: Document) -> Document:
    """Returns the fields that fold all but the last KEPT entries of a full history into `roles` and `status`.

    Empty if the history is not full. The events of the folded entries must already be in the event tables.
    """
    history = document.get("history") or []
    if len(history) <= FULL:
        return {}
    state = read_state(document | {"history": history[:-KEPT]})
    unknown = set(document["roles"]) - {role.value for role in Role}  # such as those of a newer version
    roles = unknown | {role.value for role in state.roles}
    return {"roles": dict.fromkeys(sorted(roles), True), "status": state.status.value, "history": history[-KEPT:]}


def end_entry(event_id: str) -> str:
    """Returns the history entry of the account's deletion."""
    return f"{event_id} {DELETED}"


def ended_by(document: Document) -> dict[str, list[str]]:
    """Returns the ids of the sessions that each event ended, by event id."""
    sessions: dict[str, list[str]] = {}
    for session_id, event_ids in sorted((document.get("ended") or {}).items()):
        if session_id in (document.get("sessions") or ()):
            sessions.setdefault(event_ids[0], []).append(session_id)
    return sessions
