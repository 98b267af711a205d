"""How many requests a Data API bears at once."""

MIN, MAX = 2, 24  # requests
MAX_QUEUED = 0.5  # requests, or
MAX_SHARE_QUEUED = 1 / 6  # of the limit
MAX_WAITING = 10  # documents; to read more of them together costs less than another request
SMOOTHING = 16  # requests that the mean follows


class ConcurrencyLimit:
    """A limit that follows latency, as in TCP Vegas: what the Data API doesn't bear waits there in a queue.

    The queue's length is limit * (1 - best / mean), with the mean time of the latest requests and its lowest value.
    """

    def __init__(self) -> None:
        self.requests = MIN
        self._mean: float | None = None  # seconds
        self._best = float("inf")
        self._answered = 0  # since the last decision

    def update(self, seconds: float, waiting: int) -> None:
        """Count a request that took so long, while look-ups waited for so many documents."""
        self._mean = seconds if self._mean is None else self._mean + (seconds - self._mean) / SMOOTHING
        self._best = min(self._best, self._mean)
        self._answered += 1
        if self._answered < self.requests:
            return
        self._answered = 0
        if self.requests * (1 - self._best / self._mean) > max(MAX_QUEUED, MAX_SHARE_QUEUED * self.requests):
            self.requests = max(self.requests - 1, MIN)
        elif 0 < waiting <= MAX_WAITING:
            self.requests = min(self.requests + 1, MAX)
