"""The processes that hash passwords: what they answer, and what happens when they die."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event

import pytest

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.security.hashing_process import run_idle
from killrvideo_grpc.security.hashing_processes import HashingProcesses
from tests.support.process import children, wait_for_end

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

PASSWORD = "correct horse"


@pytest.fixture
async def processes() -> AsyncIterator[HashingProcesses]:
    processes = HashingProcesses(5)
    yield processes
    await processes.close()


def hashing_pids(parent: int | None = None) -> list[int]:
    """Return the hashing processes of a process, by default this one."""
    pids = children(parent or os.getpid())
    return [pid for pid in pids if b"hashing_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def public_bytes(pid: int) -> bytes:
    """Return what other processes of the same user can read of a process's start."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


async def test_hashes_have_the_configured_cost_and_verify(processes: HashingProcesses) -> None:
    hashed = await processes.run("hash", PASSWORD)
    assert isinstance(hashed, str)
    assert hashed.startswith("$2b$05$")
    assert await processes.run("verify", PASSWORD, hashed) is True
    assert await processes.run("verify", "wrong", hashed) is False
    assert await processes.run("verify", PASSWORD, None) is False
    assert len(hashing_pids()) == 1  # the same one each time


async def test_passwords_are_in_no_argument_and_no_environment(processes: HashingProcesses) -> None:
    await processes.run("hash", PASSWORD)
    (pid,) = hashing_pids()
    assert b"hashing_process" in public_bytes(pid)
    assert PASSWORD.encode() not in public_bytes(pid)


async def test_a_process_that_died_is_replaced(processes: HashingProcesses) -> None:
    await processes.run("hash", PASSWORD)
    (killed,) = hashing_pids()
    os.kill(killed, signal.SIGKILL)
    assert await processes.run("hash", PASSWORD)
    assert hashing_pids() != [killed]


async def test_signals_for_the_whole_group_leave_it_alone(processes: HashingProcesses) -> None:
    await processes.run("hash", PASSWORD)
    before = hashing_pids()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(before[0], number)
    assert await processes.run("hash", PASSWORD)
    assert hashing_pids() == before


async def test_a_request_whose_processes_die_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    processes = HashingProcesses(3)  # bcrypt refuses this cost
    with pytest.raises(Overloaded):
        await processes.run("hash", PASSWORD)
    assert capfd.readouterr().err.count("Invalid rounds") == 2
    assert hashing_pids() == []


async def test_close_ends_them() -> None:
    processes = HashingProcesses(4)
    await processes.run("hash", PASSWORD)
    assert hashing_pids() != []
    await processes.close()
    assert hashing_pids() == []


PARENT = """
import asyncio
from killrvideo_grpc.security.hashing_processes import HashingProcesses

async def main():
    await HashingProcesses(4).run("hash", "correct horse")
    print("hashed", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_they_end_with_a_parent_that_is_killed(parent: "subprocess.Popen[bytes]") -> None:
    assert parent.stdout
    assert parent.stdout.readline() == b"hashed\n"
    (pid,) = hashing_pids(parent.pid)
    parent.kill()
    wait_for_end(pid)


def test_work_that_gets_no_idle_core_begins_again() -> None:
    held, calls = Event(), []

    def work() -> int:
        calls.append(1)
        if len(calls) == 1:
            held.wait(20)
        return len(calls)

    assert run_idle(work, 0.01) == (2, True)
    held.set()
    assert run_idle(lambda: 3, 20) == (3, False)
