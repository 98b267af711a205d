"""A password hasher that records its work."""

import asyncio

from killrvideo_grpc.security.hashing_process import Bcrypt
from killrvideo_grpc.security.passwords import BcryptHasher


class CountingBcrypt(Bcrypt):
    """The real work, noting the cost of each run of bcrypt. As a pool, it runs in threads."""

    def __init__(self, rounds: int) -> None:
        super().__init__(rounds)
        self.costs: list[int] = []

    async def run(self, method: str, *arguments: str | None) -> str | bool:
        result: str | bool = await asyncio.to_thread(getattr(self, method), *arguments)
        return result

    async def close(self) -> None:
        pass

    def _matches(self, secret: bytes, password_hash: str) -> bool:
        matches = super()._matches(secret, password_hash)
        self.costs.append(int(password_hash.split("$")[2]))
        return matches

    def _hash(self, secret: bytes, cost: int) -> str:
        password_hash = super()._hash(secret, cost)
        self.costs.append(cost)
        return password_hash


class CountingHasher(BcryptHasher):
    """A hasher that notes the cost of each run of bcrypt."""

    def __init__(self, rounds: int, max_concurrent: int = 8) -> None:
        self._bcrypt = CountingBcrypt(rounds)
        super().__init__(rounds, self._bcrypt, max_concurrent)

    @property
    def costs(self) -> list[int]:
        """The cost of each run so far."""
        return self._bcrypt.costs
