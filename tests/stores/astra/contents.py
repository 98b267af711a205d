"""The contents of the fake, in terms of the account document (docs/accounts.md)."""

from typing import Any

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.changes import Event
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.astra.document import PREFIX, document_id, is_erased, shows_moderator
from killrvideo_grpc.stores.astra.moderator_index import GUARD
from killrvideo_grpc.stores.data_api.client import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from tests.support.fake_data_api import FakeDataApi
from tests.support.keyspaces import KEYSPACE

Json = dict[str, Any]


class Contents:
    """Reads documents and rows, as JSON values."""

    def __init__(self, server: FakeDataApi) -> None:
        self._server = server

    def document(self, account: Account) -> Json | None:
        return self._server.document(KEYSPACE, ACCOUNTS, document_id(account.user_id))

    def existing(self, account: Account) -> Json:
        """The document of an account; fails if there is none."""
        document = self.document(account)
        assert document
        return document

    def log(self, email: str) -> list[str] | None:
        """The log of an address's claim."""
        claim = self._server.document(KEYSPACE, ACCOUNTS, claim_id(email))
        return claim["log"] if claim else None

    def row(self, account: Account) -> Json | None:
        return self._server.row(KEYSPACE, USERS, account.user_id)

    def has_event(self, event: Event) -> bool:
        """Whether both event tables have the event exactly once."""
        return self.recorded(event) == [1, 1]

    def recorded(self, event: Event) -> list[int]:
        """How often each of the two event tables has the event."""
        tables = [self._server.rows(KEYSPACE, table) for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY)]
        return [[row["event_id"] for row in rows].count(str(event.event_id)) for rows in tables]

    def guard(self) -> set[str]:
        """The user ids in the moderators guard."""
        guard = self._server.document(KEYSPACE, ACCOUNTS, GUARD) or {}
        return set(guard.get("ids", ()))

    def moderators(self) -> set[str]:
        """The user ids of all active moderators, according to their documents."""
        documents = self._server.documents(KEYSPACE, ACCOUNTS)
        accounts = [document for document in documents if document["_id"].startswith(PREFIX)]
        return {document["_id"].removeprefix(PREFIX) for document in accounts if shows_moderator(document)}

    def pending(self) -> list[str]:
        """The ids of all documents marked as pending, except those of erased accounts."""
        documents = self._server.documents(KEYSPACE, ACCOUNTS)
        return [found["_id"] for found in documents if found.get("pending") and not is_erased(found)]

    def everything(self) -> str:
        """All documents and rows as one text."""
        tables = [self._server.rows(KEYSPACE, table) for table in (USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY)]
        return repr([self._server.documents(KEYSPACE, ACCOUNTS), *tables])
