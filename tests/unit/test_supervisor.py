"""A worker that keeps dying is restarted with a growing delay."""

import asyncio
import errno
from typing import Any

import pytest

from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.server.supervisor import Worker


class Machine:
    """Runs processes that live for the given seconds, on a clock of its own. Cancels the worker after the last one.

    A process without a lifetime can't be started.
    """

    def __init__(self, *lifetimes: float | None, line: bytes = b"{}\n") -> None:
        self._lifetimes = list(lifetimes)
        self._line = line
        self.now = 0.0
        self.delays: list[float] = []

    async def start(self) -> Any:
        if not self._lifetimes:
            raise asyncio.CancelledError
        lifetime = self._lifetimes.pop(0)
        if lifetime is None:
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return Process(self, lifetime, self._line)

    async def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        self.now += seconds


class Process:
    def __init__(self, machine: Machine, lifetime: float, line: bytes) -> None:
        self._machine, self._lifetime = machine, lifetime
        self.stdout = asyncio.StreamReader()
        self.stdout.feed_data(line)
        self.stdout.feed_eof()
        self.returncode = 1

    async def wait(self) -> int:
        self._machine.now += self._lifetime
        return self.returncode


async def delays_of(machine: Machine) -> list[float]:
    worker = Worker(50051, machine.start, machine.sleep, lambda: machine.now)
    with pytest.raises(asyncio.CancelledError):
        await worker.keep_running()
    return machine.delays


def test_a_crash_loop_slows_down_to_one_restart_a_minute() -> None:
    async def run() -> list[float]:
        return await delays_of(Machine(*[0.1] * 9))

    assert asyncio.run(run()) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_worker_that_ran_for_long_is_restarted_at_once_again() -> None:
    async def run() -> list[float]:
        return await delays_of(Machine(0.1, 0.1, 3600, 0.1))

    assert asyncio.run(run()) == [1, 2, 1, 2]


def test_a_restart_that_fails_is_tried_again() -> None:
    async def run() -> list[float]:
        return await delays_of(Machine(0.1, None, None, 0.1))

    assert asyncio.run(run()) == [1, 2, 4, 8]


def test_a_first_worker_that_cannot_be_started_is_an_error_with_its_cause() -> None:
    async def run() -> None:
        machine = Machine(None)
        worker = Worker(50051, machine.start, machine.sleep, lambda: machine.now)
        try:
            await worker.keep_running()
        finally:
            await worker.end(1)

    with pytest.raises(SetupError, match="could not start: EAGAIN"):
        asyncio.run(run())


def test_a_worker_that_never_served_is_not_restarted() -> None:
    async def run() -> None:
        machine = Machine(0.1, line=b"")
        await Worker(50051, machine.start, machine.sleep, lambda: machine.now).keep_running()

    with pytest.raises(SetupError, match="could not start"):
        asyncio.run(run())
