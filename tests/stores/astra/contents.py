"""The contents of the fake, in terms of the account document (docs/accounts.md)."""

from typing import Any

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.events import Cause, Event
from killrvideo_grpc.stores.astra.claims import claim_id
from killrvideo_grpc.stores.astra.document import PREFIX, SETTLE, document_id, is_active_moderator
from killrvideo_grpc.stores.astra.moderator_index import INDEX_ID
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
        """The document of an account, which must exist."""
        document = self.document(account)
        assert document
        return document

    def owner(self, email: str) -> str | None:
        """The user id that the claim on an address names."""
        claim = self._server.document(KEYSPACE, ACCOUNTS, claim_id(email))
        return claim["owner"] if claim else None

    def row(self, account: Account) -> Json | None:
        return self._server.row(KEYSPACE, USERS, account.user_id)

    def has_event(self, event: Cause | Event) -> bool:
        """Whether both event tables have the event exactly once."""
        return self.recorded(event) == [1, 1]

    def recorded(self, event: Cause | Event) -> list[int]:
        """How often each of the two event tables has the event."""
        tables = [self._server.rows(KEYSPACE, table) for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY)]
        return [[row["event_id"] for row in rows].count(str(event.event_id)) for rows in tables]

    def index(self) -> set[str]:
        """The user ids in the moderator index."""
        index = self._server.document(KEYSPACE, ACCOUNTS, INDEX_ID) or {}
        return set(index.get("ids", ()))

    def moderators(self) -> set[str]:
        """The user ids of all active moderators, according to their documents."""
        documents = self._server.documents(KEYSPACE, ACCOUNTS)
        accounts = [document for document in documents if document["_id"].startswith(PREFIX)]
        return {document["_id"].removeprefix(PREFIX) for document in accounts if is_active_moderator(document)}

    def pending(self) -> list[str]:
        """The ids of all pending documents, except those that are settling."""
        documents = self._server.documents(KEYSPACE, ACCOUNTS)
        return [found["_id"] for found in documents if found.get("pending") not in (None, SETTLE)]

    def everything(self) -> str:
        """All documents and rows as one text."""
        tables = [self._server.rows(KEYSPACE, table) for table in (USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY)]
        return repr([self._server.documents(KEYSPACE, ACCOUNTS), *tables])
