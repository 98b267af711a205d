"""The processes that hash passwords, as the service sees them."""

import asyncio
import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from subprocess import DEVNULL

import structlog

from killrvideo_grpc.domain.errors import Overloaded, cause_of
from killrvideo_grpc.security.hashing_process import cost_of

REFERENCE_ROUNDS = 12
# Time limits up to REFERENCE_ROUNDS. Each further step doubles them.
YIELDING_SECONDS = 2.0
ANSWER_SECONDS = 30.0
MIN_YIELDING_ROUNDS = 9  # cheaper hashes, of up to 15 ms, disturb nobody
REAP_INTERVAL = 0.01  # seconds
# OSError: also no core in time, no memory, or too many processes or open files.
FAILURES = (OSError, EOFError, ValueError)

_log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class _Hasher:
    """A process and the connection to it."""

    process: subprocess.Popen[bytes]
    answers: asyncio.StreamReader
    requests: asyncio.StreamWriter


class HashingProcessPool:
    """Processes that run `Bcrypt` on idle cores, one for each request in progress. They start when needed, and stay.

    A request that gets no idle core in time begins again at normal priority. The processes get passwords through
    sockets only, and end with this process, even if it is killed.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._running: set[subprocess.Popen[bytes]] = set()
        self._spare: list[_Hasher] = []
        self._killed: list[subprocess.Popen[bytes]] = []
        self._is_closed = False

    async def run(self, method: str, *arguments: str | None) -> str | bool:
        """Return what this method of `Bcrypt` returns. Raise Overloaded if two processes in turn die or hang.

        If the caller is cancelled, the process that works for it is killed.
        """
        # A password may look like a hash, of any cost.
        rounds = max(self._rounds, cost_of(arguments[1] or "") if method == "verify" else 0)
        factor = 2.0 ** max(0, rounds - REFERENCE_ROUNDS)
        try:
            hasher = self._spare.pop() if self._spare else await self._start()
            try:
                yields = rounds >= MIN_YIELDING_ROUNDS
                return await self._ask(hasher, [yields, method, *arguments], YIELDING_SECONDS * factor)
            except FAILURES as error:
                _warn(error)
                return await self._ask(await self._start(), [False, method, *arguments], ANSWER_SECONDS * factor)
        except FAILURES as error:
            _warn(error)
            raise Overloaded from None

    async def close(self) -> None:
        """End all processes, also those that are hashing, and start no more."""
        self._is_closed = True
        while self._spare:
            self._spare.pop().requests.close()
        for process in list(self._running):
            self._kill(process)
        while self._killed:
            await asyncio.sleep(REAP_INTERVAL)
            self._reap()

    async def _start(self) -> _Hasher:
        if self._is_closed:
            raise ConnectionError
        process, connection = _start_process(self._rounds)
        self._running.add(process)
        try:
            return _Hasher(process, *await asyncio.open_unix_connection(sock=connection))
        except BaseException:  # also a cancellation
            connection.close()
            self._kill(process)
            raise

    async def _ask(self, hasher: _Hasher, request: list[str | bool | None], seconds: float) -> str | bool:
        is_reusable = False
        try:
            async with asyncio.timeout(seconds):
                hasher.requests.write(json.dumps(request).encode() + b"\n")
                result: str | bool = json.loads(await hasher.answers.readuntil())
            is_reusable = True
            return result
        finally:
            if is_reusable:
                self._spare.append(hasher)
            else:
                hasher.requests.close()
                self._kill(hasher.process)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        self._running.discard(process)
        self._killed.append(process)
        self._reap()

    def _reap(self) -> None:
        # A process that yields only ends once it gets a core.
        self._killed = [process for process in self._killed if process.poll() is None]


def _start_process(rounds: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        descriptor = theirs.fileno()
        # -P: import nothing from the working directory.
        command = (sys.executable, "-P", "-m", "killrvideo_grpc.security.hashing_process", str(rounds), str(descriptor))
        try:
            # Not asyncio's: uvloop forks, and gRPC's fork handlers crash.
            process = subprocess.Popen(
                command, stdin=DEVNULL, stdout=DEVNULL, pass_fds=[descriptor], start_new_session=True
            )
        except OSError:
            ours.close()
            raise
    return process, ours


def _warn(error: Exception) -> None:
    _log.warning("hashing process failed", cause=cause_of(error))
