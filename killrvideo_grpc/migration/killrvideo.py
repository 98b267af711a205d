"""From the rows of an existing KillrVideo database to accounts, as docs/moving-in.md explains. Pure functions."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from killrvideo_grpc.domain.account import Account, AccountStatus, Credentials, Role, normal_email
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.migration import values
from killrvideo_grpc.migration.rows import Candidate, RefusedRow
from killrvideo_grpc.migration.rules import allows_email, allows_name
from killrvideo_grpc.migration.source import Source, SourceCredential, SourceUser

DEFAULT_FIRST_NAME, DEFAULT_LAST_NAME = "Someone", "Unknown"


@dataclass(slots=True)
class Plan:
    """What to import and what not."""

    accounts: list[Candidate] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)


@dataclass(slots=True)
class _Person:
    """What the source has on one id. Without `address`, nobody can log in, and `profile_only_because` says why."""

    user: SourceUser
    user_id: UUID
    credential: SourceCredential | None = None
    source_emails: list[str] = field(default_factory=list)  # in all its credentials
    address: str = ""
    profile_only_because: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def last_login(self) -> datetime | None:
        """The last login, unless it is impossible."""
        created, login = values.read_date(self.user.created), values.read_date(self.user.last_login)
        return None if login and created and login < created else login


def plan(source: Source, at: datetime, *, trust_roles: bool = False) -> Plan:
    """Decide about all rows. Missing creation dates become `at`. Raise SetupError."""
    _require_unmasked(source.users)
    _require_unmasked(source.credentials)
    made = Plan()
    people = _people(source.users, made.refused)
    made.refused += _assign_credentials(people, source.credentials)
    for person in people.values():
        _read_address(person)
    _resolve_duplicate_addresses(people.values())
    for person in people.values():
        roles = _roles(person, trusted=trust_roles or not source.has_roles, from_documents=source.has_roles)
        made.accounts.append(_candidate(person, roles, at))
    return made


def profile_only(candidate: Candidate, reason: str) -> Candidate:
    """Return the account without its address, password and role."""
    account = replace(candidate.credentials.account, email="", roles=frozenset({Role.VIEWER}))
    credentials = Credentials(account, "")
    return replace(candidate, credentials=credentials, profile_only_because=reason, unusable_password="")


def _require_unmasked(rows: Sequence[SourceUser | SourceCredential]) -> None:
    """Raise SetupError if most addresses have a mask's shape. Single ones could be real."""
    masked = [row for row in rows if values.is_masked(row.email)]
    if 2 * len(masked) > sum(1 for row in rows if values.read_text(row.email)):
        raise SetupError(
            f"The address in {masked[0].where} is masked. Grant the database user UNMASK on users and"
            " user_credentials, and try again."
        )


def _people(users: Sequence[SourceUser], refused: list[RefusedRow]) -> dict[UUID, _Person]:
    people: dict[UUID, _Person] = {}
    for user in users:
        user_id = values.read_id(user.user_id)
        if user_id is None:
            refused.append(RefusedRow(user.where, "its user id is no UUID"))
        elif user_id in people:
            refused.append(RefusedRow(user.where, f"{people[user_id].user.where} has the same user id"))
        else:
            people[user_id] = _Person(user, user_id)
    return people


def _assign_credentials(people: dict[UUID, _Person], credentials: Sequence[SourceCredential]) -> list[RefusedRow]:
    """Give each person one row of credentials, and add people who have only credentials.

    Return the rows that are left.
    """
    owned, refused = _by_owner(credentials, people.values())
    for user_id, found in owned.items():
        person = people.setdefault(user_id, _without_user(user_id, found[0]))
        person.credential, *others = sorted(found, key=lambda credential: _preference(credential, person))
        person.source_emails = [each.email for each in (person.credential, *others) if isinstance(each.email, str)]
        reason = f"{user_id} logs in with another address"
        refused += [RefusedRow(_where_with_address(each), reason) for each in others]
    return refused


def _by_owner(
    credentials: Sequence[SourceCredential], people: Iterable[_Person]
) -> tuple[dict[UUID, list[SourceCredential]], list[RefusedRow]]:
    """Return the credentials by user id, and those without an owner.

    Credentials without a user id belong to the only person with their address.
    """
    by_address = defaultdict(list)
    for person in people:
        if address := _normal(person.user.email):
            by_address[address].append(person.user_id)
    owned: dict[UUID, list[SourceCredential]] = defaultdict(list)
    refused = list[RefusedRow]()
    for credential in credentials:
        if credential.user_id is None or credential.user_id == "":
            found = by_address[_normal(credential.email)]
            user_id = found[0] if len(found) == 1 else None
            reason = "it names no user, and not exactly one has its address"
        else:
            user_id, reason = values.read_id(credential.user_id), "its user id is no UUID"
        if user_id is None:
            refused.append(RefusedRow(_where_with_address(credential), reason))
        else:
            owned[user_id].append(credential)
    return owned, refused


def _where_with_address(credential: SourceCredential) -> str:
    """Return where the credentials stand, with their address unless the text could be something else."""
    address = values.read_text(credential.email)
    return f"{credential.where} ({address})" if allows_email(address) else credential.where


def _without_user(user_id: UUID, credential: SourceCredential) -> _Person:
    user = SourceUser(credential.where, user_id, credential.email, None, None, None, None, None)
    return _Person(user, user_id, remarks=["it has credentials only: names and dates are unknown"])


def _preference(credential: SourceCredential, person: _Person) -> tuple[bool, bool, str]:
    """Sort the credentials with the address of the user first."""
    address, shown = values.read_text(credential.email), values.read_text(person.user.email)
    return _normal(address) != _normal(shown), address != shown, address


def _read_address(person: _Person) -> None:
    """Take the address that logs in, if somebody could register with it."""
    if person.credential is None:
        person.profile_only_because = "it has no credentials"
        return
    address = values.read_text(person.credential.email)
    if not allows_email(address):
        person.profile_only_because = "its address is not valid"
        return
    person.address = address
    if _normal(person.user.email) != _normal(address):
        person.remarks.append("users and user_credentials have different addresses: the one that logs in is kept")


def _resolve_duplicate_addresses(people: Iterable[_Person]) -> None:
    """Leave each address to one person: whoever logged in last."""
    by_address = defaultdict(list)
    for person in people:
        if person.address:
            by_address[normal_email(person.address)].append(person)
    for sharers in by_address.values():
        owner, *others = sorted(sharers, key=_recency, reverse=True)
        for other in others:
            other.address = ""
            other.profile_only_because = f"its address belongs to {owner.user_id}"


def _recency(person: _Person) -> tuple[float, int]:
    login = person.last_login
    return login.timestamp() if login else 0.0, person.user_id.int


def _roles(person: _Person, *, trusted: bool, from_documents: bool) -> frozenset[Role]:
    roles = values.read_roles(person.user.roles if from_documents else person.user.status)
    if roles == {Role.VIEWER} or (trusted and person.address):
        return roles
    if person.address:
        person.remarks.append("its role is not taken over: anybody could set it (--trust-roles takes it over)")
    return frozenset({Role.VIEWER})


def _candidate(person: _Person, roles: frozenset[Role], at: datetime) -> Candidate:
    user, credential = person.user, person.credential
    is_locked = credential is not None and values.read_flag(credential.locked)
    account = Account(
        user_id=person.user_id,
        email=person.address,
        first_name=_name(user.first_name, DEFAULT_FIRST_NAME),
        last_name=_name(user.last_name, DEFAULT_LAST_NAME),
        roles=roles,
        status=AccountStatus.SUSPENDED if is_locked else values.read_status(user.status),
        created_date=values.read_date(user.created) or at,
        credential_id=uuid4().hex,
        last_login_date=person.last_login,
    )
    password_hash, kind = values.read_hash(credential.password) if credential and person.address else ("", "")
    before = [values.shortened(user.status), values.shortened(user.roles), "locked" if is_locked else ""]
    return Candidate(
        user.where,
        Credentials(account, password_hash),
        ",".join(filter(None, before)),
        (*person.remarks, *_losses(user, account)),
        person.profile_only_because,
        from_killrvideo=True,
        unusable_password=kind,
        source_emails=tuple(person.source_emails),
        rewrites=_differs(user, account),
    )


def _differs(user: SourceUser, account: Account) -> bool:
    """Return whether the row of the account has other texts than the source's."""
    theirs = (user.email, user.first_name, user.last_name, user.status)
    return theirs != (account.email, account.first_name, account.last_name, account.status.value)


def _losses(user: SourceUser, account: Account) -> Iterable[str]:
    """Yield what the account doesn't keep of the row, other than its address and role."""
    if values.read_date(user.created) is None:
        yield "its creation date is missing or impossible: today's is taken"
    if not values.is_no_date(user.last_login) and account.last_login_date is None:
        yield "its last login is impossible, and left out"
    given = [(user.first_name, account.first_name), (user.last_name, account.last_name)]
    if any(values.read_text(name) not in ("", kept) for name, kept in given):
        yield "a name was shortened, or characters were removed"


def _name(value: object, default: str) -> str:
    name = values.read_name(value, default)
    return name if allows_name(name) else default


def _normal(email: object) -> str:
    return normal_email(values.read_text(email))
