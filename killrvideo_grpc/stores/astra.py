"""Accounts on Astra DB, or on any Data API: a document that decides, and a row that follows (docs/astra.md)."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import structlog

from killrvideo_grpc.domain.errors import DeadlineExceeded, EmailAlreadyRegistered, StoreUnavailable
from killrvideo_grpc.domain.user import AccountStatus, Credentials, Role, User, normal_email, read_roles, read_status
from killrvideo_grpc.stores.data_api import AlreadyExists, DataApi, Document, RequestRefused, Row
from killrvideo_grpc.stores.joined_reads import JoinedReads

_log = structlog.get_logger("killrvideo_grpc.stores.astra")


class AstraStore:
    """Implements `UserStore`. The document in `login_credentials` is the account; the row in `users` shows it."""

    def __init__(self, api: DataApi) -> None:
        self._api = api
        self._reads = JoinedReads(api.find_rows)

    def register(self, user: User, password_hash: str) -> None:
        with self._api.one_wait():
            self._claim(_document(user, password_hash))
            try:
                self._api.insert_row(_row(user))
            except (StoreUnavailable, DeadlineExceeded, RequestRefused):
                # The account exists all the same, and its first login writes the row.
                _log.error("row not written, left to repair", user_id=str(user.user_id))

    def find_credentials(self, email: str) -> Credentials | None:
        document = self._api.find_document(normal_email(email))
        return _credentials(document) if document else None

    def get(self, user_id: UUID) -> User | None:
        return _user(self._find_row(user_id))

    def get_registered(self, credentials: Credentials) -> User | None:
        row = self._find_row(credentials.registered.user_id)
        return _user(row) or self._repair(credentials.registered, row)

    def record_login(self, user_id: UUID, at: datetime) -> None:
        self._api.update_row(user_id, {"$set": {"last_login_date": at}})

    def replace_password_hash(self, email: str, old: str, new: str) -> None:
        # A filter takes one condition, so the old hash can't be one. Between the two requests only another renewal of
        # the same password can come, for nothing else changes a hash.
        key = normal_email(email)
        with self._api.one_wait():
            document = self._api.find_document(key)
            if document and document["hashed_password"] == old:
                self._api.update_document(key, {"$set": {"hashed_password": new}})

    def rename(self, user: User, first_name: str | None, last_name: str | None) -> User:
        given = {"firstname": first_name, "lastname": last_name}
        changes = {column: name for column, name in given.items() if name is not None}
        self._api.update_row(user.user_id, {"$set": changes})
        return replace(user, first_name=first_name or user.first_name, last_name=last_name or user.last_name)

    def add_role(self, user_id: UUID, role: Role) -> None:
        self._api.update_row(user_id, {"$push": {"roles": role.value}})

    def remove_role(self, user_id: UUID, role: Role) -> None:
        self._api.update_row(user_id, {"$pullAll": {"roles": [role.value]}})

    def repair_all(self) -> int:
        """Writes every row that is missing though its account exists. Returns how many those were."""
        repaired = 0
        for document in self._api.documents():
            registered = _credentials(document).registered
            row = self._find_row(registered.user_id)
            if _user(row) is None:
                self._repair(registered, row)
                repaired += 1
        return repaired

    def ping(self) -> None:
        self._api.ping()

    def close(self) -> None:
        self._reads.close()
        self._api.close()

    def _claim(self, document: Document) -> None:
        """Inserts the document: the one operation that decides a race."""
        try:
            self._api.insert_document(document)
        except AlreadyExists:
            raise EmailAlreadyRegistered from None
        except StoreUnavailable:
            # Either the request was lost or its answer. A second one tells, for a claim of ours carries our user id.
            try:
                self._api.insert_document(document)
            except AlreadyExists:
                found = self._api.find_document(document["_id"])
                if found is None or found["userid"] != document["userid"]:
                    raise EmailAlreadyRegistered from None

    def _find_row(self, user_id: UUID) -> Row | None:
        until = time.monotonic() + self._api.max_wait
        self._api.fail_if_away()
        try:
            return self._reads.get(user_id, at_most=self._api.max_wait)
        except StoreUnavailable:
            self._api.fail_if_away()
            if time.monotonic() >= until:
                raise
            return self._reads.get(user_id, at_most=until - time.monotonic())

    def _repair(self, registered: User, ghost: Row | None) -> User:
        """Writes the row of an account that has none. What a ghost of it already says (a role, a suspension) stays."""
        columns = _row(registered)
        missing = {column: value for column, value in columns.items() if (ghost or {}).get(column) is None}
        row = missing | {"userid": registered.user_id}
        self._api.insert_row(row)
        _log.warning("row repaired", user_id=str(registered.user_id))
        return _user((ghost or {}) | row) or registered


def _document(user: User, password_hash: str) -> Document:
    return {
        "_id": normal_email(user.email),
        "userid": str(user.user_id),
        "hashed_password": password_hash,
        "email": user.email,
        "firstname": user.first_name,
        "lastname": user.last_name,
        "created_date": user.created_date,
    }


def _credentials(document: Document) -> Credentials:
    registered = User(
        user_id=UUID(document["userid"]),
        email=document["email"],
        first_name=document["firstname"],
        last_name=document["lastname"],
        roles=frozenset({Role.VIEWER}),
        status=AccountStatus.ACTIVE,
        created_date=document["created_date"].astimezone(UTC),
    )
    return Credentials(registered, document["hashed_password"])


def _row(user: User) -> Row:
    return {
        "userid": user.user_id,
        "email": user.email,
        "firstname": user.first_name,
        "lastname": user.last_name,
        "account_status": user.status.value,
        "created_date": user.created_date,
        "roles": {role.value for role in user.roles},
    }


def _user(row: Row | None) -> User | None:
    if not row or not row.get("email"):
        # An update that lost a race against a deletion leaves a row without an address: that is no account.
        return None
    return User(
        user_id=row["userid"],
        email=row["email"],
        first_name=row.get("firstname") or "",
        last_name=row.get("lastname") or "",
        roles=read_roles(row.get("roles") or ()),
        status=read_status(row.get("account_status")),
        created_date=row.get("created_date") or datetime.fromtimestamp(0, UTC),
        last_login_date=row.get("last_login_date"),
    )
