"""A password hasher that records its work."""

from killrvideo_grpc.security.passwords import BcryptHasher


class CountingHasher(BcryptHasher):
    """The real hasher, noting the cost of each run of bcrypt."""

    def __init__(self, rounds: int, threads: int = 8) -> None:
        super().__init__(rounds, threads)
        self.costs: list[int] = []

    def _matches(self, secret: bytes, password_hash: str) -> bool:
        matches = super()._matches(secret, password_hash)
        self.costs.append(int(password_hash.split("$")[2]))
        return matches

    def _hash(self, secret: bytes, cost: int) -> str:
        password_hash = super()._hash(secret, cost)
        self.costs.append(cost)
        return password_hash
