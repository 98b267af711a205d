"""The processes that hash passwords, as the service sees them."""

import asyncio
import json
import socket
import subprocess
import sys
from dataclasses import dataclass

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.security.hashing_process import REFERENCE_ROUNDS

ANSWER_SECONDS = 30.0  # at a cost of REFERENCE_ROUNDS


@dataclass(frozen=True, eq=False)
class _Process:
    process: subprocess.Popen[bytes]
    answers: asyncio.StreamReader
    requests: asyncio.StreamWriter


class HashingProcesses:
    """Processes that run `Bcrypt`, one for each request in progress. They are started when needed, and stay.

    Passwords reach them through sockets only. They end with this process, even if it is killed.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._answer_seconds = ANSWER_SECONDS * max(1.0, 2.0 ** (rounds - REFERENCE_ROUNDS))
        self._all: set[_Process] = set()
        self._idle: list[_Process] = []

    async def run(self, method: str, *arguments: str | None) -> str | bool:
        """Return what this method of `Bcrypt` returns. Raise Overloaded if two processes in turn die or hang."""
        request = json.dumps([method, *arguments]).encode() + b"\n"
        try:
            process = self._idle.pop() if self._idle else await self._start()
            try:
                return await self._ask(process, request)
            except (ConnectionError, EOFError, TimeoutError):
                return await self._ask(await self._start(), request)
        except (OSError, EOFError):  # OSError: also no memory, or too many processes or open files
            raise Overloaded from None

    async def close(self) -> None:
        """End all processes, also those that are hashing."""
        for process in list(self._all):
            self._end(process)

    async def _start(self) -> _Process:
        # -P: import nothing from the working directory.
        command = (sys.executable, "-P", "-m", "killrvideo_grpc.security.hashing_process", str(self._rounds))
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                # Not asyncio's: uvloop forks, and gRPC's fork handlers crash.
                started = subprocess.Popen(command, stdin=theirs, stdout=theirs)
            except OSError:
                ours.close()
                raise
        process = _Process(started, *await asyncio.open_unix_connection(sock=ours))
        self._all.add(process)
        return process

    async def _ask(self, process: _Process, request: bytes) -> str | bool:
        ends = True
        try:
            async with asyncio.timeout(self._answer_seconds):
                process.requests.write(request)
                result: str | bool
                result, ends = json.loads(await process.answers.readuntil())
                return result
        finally:
            if ends:
                self._end(process)
            else:
                self._idle.append(process)

    def _end(self, process: _Process) -> None:
        process.requests.close()
        process.process.kill()
        process.process.wait()
        self._all.discard(process)
