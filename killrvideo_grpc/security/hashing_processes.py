"""The processes that hash passwords, as the service sees them."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import cast

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.security.hashing_process import REFERENCE_ROUNDS

MAX_STARTS = 2  # for one request
MAX_ANSWER = 1024  # bytes
ANSWER_SECONDS = 30.0  # at a cost of REFERENCE_ROUNDS


@dataclass(frozen=True, eq=False)
class _Process:
    process: Process
    requests: asyncio.StreamWriter
    answers: asyncio.StreamReader


class HashingProcesses:
    """Processes that run `Bcrypt`, one for each request in progress. They are started when needed, and stay.

    Passwords reach them through pipes only. They end with this process, even if it is killed.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._answer_seconds = ANSWER_SECONDS * max(1.0, 2.0 ** (rounds - REFERENCE_ROUNDS))
        self._all: set[_Process] = set()
        self._idle: list[_Process] = []

    async def run(self, method: str, *arguments: str | None) -> str | bool:
        """Return what this method of `Bcrypt` returns. Raise Overloaded if the processes for it die or hang."""
        request = json.dumps([method, *arguments]).encode() + b"\n"
        starts = 0
        while self._idle or starts < MAX_STARTS:
            if self._idle:
                process = self._idle.pop()
            else:
                process = await self._start()
                starts += 1
            try:
                async with asyncio.timeout(self._answer_seconds):
                    return await self._ask(process, request)
            except (ConnectionError, asyncio.IncompleteReadError):
                await self._end(process)
            except TimeoutError:
                await self._end(process)
                break
        raise Overloaded

    async def close(self) -> None:
        """End all processes, also those that are hashing."""
        await asyncio.gather(*map(self._end, list(self._all)))

    async def _start(self) -> _Process:
        # -P: import nothing from the working directory.
        command = (sys.executable, "-P", "-m", "killrvideo_grpc.security.hashing_process", str(self._rounds))
        try:
            started = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=MAX_ANSWER)
        except OSError:  # no memory, or too many processes or open files
            raise Overloaded from None
        process = _Process(
            started, cast("asyncio.StreamWriter", started.stdin), cast("asyncio.StreamReader", started.stdout)
        )
        self._all.add(process)
        return process

    async def _ask(self, process: _Process, request: bytes) -> str | bool:
        process.requests.write(request)
        await process.requests.drain()
        result: str | bool
        result, ends = json.loads(await process.answers.readuntil())
        if ends:
            await self._end(process)
        else:
            self._idle.append(process)
        return result

    async def _end(self, process: _Process) -> None:
        if process.process.returncode is None:
            process.process.kill()
        await process.process.wait()
        self._all.discard(process)
