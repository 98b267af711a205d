"""Looking up other people's accounts."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from killrvideo_grpc.domain.account import Account
from killrvideo_grpc.domain.errors import UserNotFound
from killrvideo_grpc.domain.ports import AccountStore, PageTokens
from killrvideo_grpc.domain.search import Query

DEFAULT_PAGE_SIZE = 20


@dataclass(frozen=True, slots=True)
class Found:
    """The accounts found and the ids of those that don't exist, both in the order of the request."""

    accounts: Sequence[Account]
    missing: Sequence[UUID]


class Directory:
    """The use cases of looking up and searching for other accounts."""

    def __init__(self, store: AccountStore, page_tokens: PageTokens) -> None:
        self._store = store
        self._page_tokens = page_tokens

    async def get(self, user_id: UUID) -> Account:
        """Returns an account. Raises UserNotFound."""
        account = await self._store.get(user_id)
        if account is None:
            raise UserNotFound
        return account

    async def get_many(self, user_ids: Sequence[UUID]) -> Found:
        """Returns the accounts with these ids, at most 100. Repeated ids count once."""
        wanted = dict.fromkeys(user_ids)
        found = await self._store.get_many(wanted.keys())
        accounts = [found[user_id] for user_id in wanted if user_id in found]
        return Found(accounts, [user_id for user_id in wanted if user_id not in found])

    async def search(self, text: str, size: int, token: str) -> tuple[Sequence[Account], str]:
        """Returns a page of matching accounts, and the token of the next page; empty on the last page."""
        query = Query.parse(text)
        scope = f"search {' '.join(query.words)}"
        start = self._page_tokens.verify(token, scope) if token else ""
        page = await self._store.search(query, size or DEFAULT_PAGE_SIZE, start)
        return page.items, self._page_tokens.issue(page.next, scope)
