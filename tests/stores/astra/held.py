"""What the stand-in for the Data API holds, in the terms of the account document (docs/astra.md)."""

from typing import Any

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.changes import Event
from killrvideo_grpc.stores.account_documents import PREFIX, document_id, is_erased, shows_moderator
from killrvideo_grpc.stores.data_api import ACCOUNT_EVENTS, ACCOUNTS, EVENTS_BY_DAY, USERS
from killrvideo_grpc.stores.email_claims import claim_id
from killrvideo_grpc.stores.moderators import GUARD
from tests.support.data_api import DataApi
from tests.support.keyspaces import KEYSPACE

Json = dict[str, Any]


class Held:
    """Documents and rows, as JSON has them."""

    def __init__(self, server: DataApi) -> None:
        self._server = server

    def document(self, account: Account) -> Json | None:
        return self._server.document(KEYSPACE, ACCOUNTS, document_id(account.user_id))

    def existing(self, account: Account) -> Json:
        """The document of an account that has one."""
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
        """Whether both tables of events have it, once."""
        return self.recorded(event) == [1, 1]

    def recorded(self, event: Event) -> list[int]:
        """How often each of the two tables of events has it."""
        tables = [self._server.rows(KEYSPACE, table) for table in (ACCOUNT_EVENTS, EVENTS_BY_DAY)]
        return [[row["event_id"] for row in rows].count(str(event.event_id)) for rows in tables]

    def counted(self) -> set[str]:
        """The user ids that the guard of the moderators counts."""
        guard = self._server.document(KEYSPACE, ACCOUNTS, GUARD) or {}
        return set(guard.get("ids", ()))

    def moderators(self) -> set[str]:
        """The user ids of the accounts that are active moderators."""
        documents = self._server.documents(KEYSPACE, ACCOUNTS)
        accounts = [document for document in documents if document["_id"].startswith(PREFIX)]
        return {document["_id"].removeprefix(PREFIX) for document in accounts if shows_moderator(document)}

    def pending(self) -> list[str]:
        """The ids of all documents that are marked as pending, but for those of erased accounts."""
        documents = self._server.documents(KEYSPACE, ACCOUNTS)
        return [found["_id"] for found in documents if found.get("pending") and not is_erased(found)]

    def everything(self) -> str:
        """All documents and rows as one text."""
        tables = [self._server.rows(KEYSPACE, table) for table in (USERS, ACCOUNT_EVENTS, EVENTS_BY_DAY)]
        return repr([self._server.documents(KEYSPACE, ACCOUNTS), *tables])
