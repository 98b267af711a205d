"""Which changes of a document had an effect: of equal changes that are made at once, one has, and only it is recorded.

roles     {role: true}, and
status    as they were before `history`
history   what has changed them since, in order: `<event id> +creator`, `<event id> -viewer`, `<event id> suspended`,
          `<event id> deleted`
sessions  {session id: …}, and
ended     {session id: [event id or `-`, …]}: what ended a session; the first one did

An update can't tell whether it changes anything, but it can append to a list, and whoever reads the list sees it.
"""

from dataclasses import dataclass
from typing import Any

from killrvideo_grpc.domain.account import AccountStatus, Role, read_roles, read_status
from killrvideo_grpc.domain.changes import AssignRole, RevokeRole, SetStatus, role_names
from killrvideo_grpc.stores import successions

Document = dict[str, Any]
NO_EVENT = "-"
DELETED = "deleted"
# Every call reads the whole document. A history longer than FULL is therefore cut to its last KEPT entries, which are
# enough to recognise a request that is repeated after a lost answer.
FULL, KEPT = 200, 100


@dataclass(frozen=True, slots=True)
class State:
    """The roles and the status of an account, and what was before and after each event that changed them."""

    roles: frozenset[Role]
    status: AccountStatus
    effects: dict[str, tuple[str, str]]


def entry(event_id: str | None, change: AssignRole | RevokeRole | SetStatus) -> str:
    """Returns what a change appends to the history."""
    match change:
        case AssignRole(role):
            what = f"+{role.value}"
        case RevokeRole(role):
            what = f"-{role.value}"
        case SetStatus(status):
            what = status.value
    return f"{event_id or NO_EVENT} {what}"


def read_state(document: Document) -> State:
    """Follows the history."""
    roles, status = read_roles(document.get("roles") or ()), read_status(document.get("status"))
    deletion = successions.read(document).deletion
    effects: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    for item in document.get("history") or ():
        event_id, what = item.split(" ", 1)
        if deletion and event_id == deletion.event_id:
            break  # nothing changes a deleted account
        if event_id in seen:
            continue  # the answer was lost, and the request repeated
        seen |= {event_id} - {NO_EVENT}
        if what == DELETED:
            continue  # a deletion that was refused
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
    """Returns the fields to set so that `roles` and `status` take in all but the last entries of a full history.

    Empty if it is not full. Whatever the older entries say must have been written to the tables of events.
    """
    history = document.get("history") or []
    if len(history) <= FULL:
        return {}
    state = read_state(document | {"history": history[:-KEPT]})
    unknown = set(document["roles"]) - {role.value for role in Role}  # of a newer version, say
    roles = unknown | {role.value for role in state.roles}
    return {"roles": dict.fromkeys(sorted(roles), True), "status": state.status.value, "history": history[-KEPT:]}


def end_entry(event_id: str) -> str:
    """Returns what the deletion of the account appends to the history."""
    return f"{event_id} {DELETED}"


def ended_by(document: Document) -> dict[str, list[str]]:
    """Returns the ids of the sessions that each event has ended, by its id."""
    sessions: dict[str, list[str]] = {}
    for session_id, event_ids in sorted((document.get("ended") or {}).items()):
        if session_id in (document.get("sessions") or ()):
            sessions.setdefault(event_ids[0], []).append(session_id)
    return sessions
