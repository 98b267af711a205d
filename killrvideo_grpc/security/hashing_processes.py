"""The processes that hash passwords, as the service sees them."""

import asyncio
import json
import socket
import subprocess
import sys
from dataclasses import dataclass

from killrvideo_grpc.domain.errors import Overloaded

REFERENCE_ROUNDS = 12
# At up to that cost. Beyond it, they double with each step.
YIELDING_SECONDS = 2.0
ANSWER_SECONDS = 30.0
MIN_YIELDING_ROUNDS = 9  # cheaper hashes, of up to 15 ms, disturb nobody


@dataclass(frozen=True, eq=False)
class _Process:
    process: subprocess.Popen[bytes]
    answers: asyncio.StreamReader
    requests: asyncio.StreamWriter


class HashingProcesses:
    """Processes that run `Bcrypt` on idle cores, one for each request in progress. They start when needed, and stay.

    A request that gets no idle core in time begins again at normal priority. Passwords reach the processes through
    sockets only. They end with this process, even if it is killed.
    """

    def __init__(self, rounds: int, yielding_seconds: float = YIELDING_SECONDS) -> None:
        self._rounds = rounds
        self._yielding_seconds = yielding_seconds
        self._yields = rounds >= MIN_YIELDING_ROUNDS
        self._expected_seconds = 2.0 ** max(0, rounds - REFERENCE_ROUNDS)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._spare: list[_Process] = []
        self._ending: set[asyncio.Future[int]] = set()
        self._is_closed = False

    async def run(self, method: str, *arguments: str | None) -> str | bool:
        """Return what this method of `Bcrypt` returns. Raise Overloaded if two processes in turn die or hang."""
        try:
            process = self._spare.pop() if self._spare else await self._start()
            try:
                return await self._ask(process, [self._yields, method, *arguments], self._yielding_seconds)
            except (OSError, EOFError):
                return await self._ask(await self._start(), [False, method, *arguments], ANSWER_SECONDS)
        except (OSError, EOFError):  # OSError: also no memory, or too many processes or open files
            raise Overloaded from None

    async def close(self) -> None:
        """End all processes, also those that are hashing, and start no more."""
        self._is_closed = True
        for spare in self._spare:
            spare.requests.close()
        for process in list(self._running):
            self._kill(process)
        await asyncio.gather(*self._ending)

    async def _start(self) -> _Process:
        if self._is_closed:
            raise ConnectionError
        process, connection = _start_process(self._rounds)
        self._running.add(process)
        return _Process(process, *await asyncio.open_unix_connection(sock=connection))

    async def _ask(self, process: _Process, request: list[str | bool | None], seconds: float) -> str | bool:
        is_reusable = False
        try:
            async with asyncio.timeout(seconds * self._expected_seconds):
                process.requests.write(json.dumps(request).encode() + b"\n")
                result: str | bool = json.loads(await process.answers.readuntil())
            is_reusable = True
            return result
        finally:
            if is_reusable:
                self._spare.append(process)
            else:
                process.requests.close()
                self._kill(process.process)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        self._running.discard(process)
        # A process that yields only ends once a core is idle.
        ending = asyncio.get_running_loop().run_in_executor(None, process.wait)
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


def _start_process(rounds: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    # -P: import nothing from the working directory.
    command = (sys.executable, "-P", "-m", "killrvideo_grpc.security.hashing_process", str(rounds))
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            # Not asyncio's: uvloop forks, and gRPC's fork handlers crash.
            process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True)
        except OSError:
            ours.close()
            raise
    return process, ours
