"""The processes that hash passwords: what they answer, and what happens when they die or get no core."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from killrvideo_grpc.domain.errors import Overloaded
from killrvideo_grpc.security.hashing_pool import HashingProcessPool
from tests.support.eventually import eventually
from tests.support.process import children, wait_for_end

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

PASSWORD = "correct horse"
CHEAP = 5


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the service."""
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def hashing(rounds: int) -> AsyncIterator[HashingProcessPool]:
    processes = HashingProcessPool(rounds)
    try:
        yield processes
    finally:
        await processes.close()


@pytest.fixture
async def processes() -> AsyncIterator[HashingProcessPool]:
    async with hashing(CHEAP) as processes:
        yield processes


@pytest.fixture
async def pid(processes: HashingProcessPool) -> int:
    """The process that has hashed a password."""
    await processes.run("hash", PASSWORD)
    (pid,) = hashing_pids()
    return pid


def hashing_pids(parent: int | None = None) -> list[int]:
    """Return the hashing processes of a process, by default this one."""
    return [pid for pid in children(parent or os.getpid()) if b"hashing_process" in public_bytes(pid)]


def public_bytes(pid: int) -> bytes:
    """Return what other processes of the same user can read of a process's start."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    return b""


def yields(pid: int) -> bool:
    """Return whether a process takes only the time of idle cores."""
    with suppress(FileNotFoundError, ProcessLookupError):
        session = Path(f"/proc/{pid}/autogroup")
        has_low_weight = not session.exists() or "nice 19" in session.read_text()
        return os.sched_getscheduler(pid) == os.SCHED_IDLE and has_low_weight and os.getsid(pid) == pid
    return False


async def test_hashes_have_the_configured_cost_and_verify(processes: HashingProcessPool) -> None:
    hashed = await processes.run("hash", PASSWORD)
    assert isinstance(hashed, str)
    assert hashed.startswith(f"$2b$0{CHEAP}$")
    assert await processes.run("verify", PASSWORD, hashed) is True
    assert await processes.run("verify", "wrong", hashed) is False
    assert await processes.run("verify", PASSWORD, None) is False
    assert len(hashing_pids()) == 1  # the same one each time


async def test_passwords_are_in_no_argument_and_no_environment(pid: int) -> None:
    assert b"hashing_process" in public_bytes(pid)
    assert PASSWORD.encode() not in public_bytes(pid)


async def test_expensive_hashes_take_only_the_time_of_idle_cores() -> None:
    """Without root's rights, the whole machine may change one session's weight in a tenth of a second."""
    async with hashing(16) as processes:  # takes seconds
        working = [asyncio.create_task(processes.run("hash", PASSWORD)) for _ in range(4)]
        await asyncio.to_thread(eventually, lambda: sum(map(yields, hashing_pids())) == 4)
    await asyncio.gather(*working, return_exceptions=True)


async def test_cheap_hashes_do_not_wait_for_idle_cores(pid: int) -> None:
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER


@pytest.mark.parametrize("password", [PASSWORD, "$2b$31$" + 53 * "O"], ids=["a password", "what looks like a hash"])
async def test_a_request_that_gets_no_core_begins_again_in_another_process(
    processes: HashingProcessPool, pid: int, password: str
) -> None:
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(60):
        assert await processes.run("hash", password)
    assert set(hashing_pids()) - {pid}
    await asyncio.to_thread(wait_for_end, pid)


async def test_a_process_that_died_is_replaced(processes: HashingProcessPool, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert await processes.run("hash", PASSWORD)
    assert set(hashing_pids()) - {pid}


async def test_signals_for_the_whole_service_leave_it_alone(processes: HashingProcessPool, pid: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert await processes.run("hash", PASSWORD)
    assert hashing_pids() == [pid]


async def test_a_cancelled_request_ends_its_process() -> None:
    async with hashing(16) as processes:
        working = asyncio.create_task(processes.run("hash", PASSWORD))
        (pid,) = await asyncio.to_thread(eventually, hashing_pids)
        working.cancel()
        await asyncio.to_thread(wait_for_end, pid)


async def test_a_request_whose_processes_die_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    async with hashing(3) as processes:  # bcrypt refuses this cost
        with pytest.raises(Overloaded):
            await processes.run("hash", PASSWORD)
    errors = capfd.readouterr().err
    assert errors.count("Invalid rounds") == 2
    assert PASSWORD not in errors
    assert hashing_pids() == []


async def test_a_closed_pool_refuses(processes: HashingProcessPool) -> None:
    await processes.run("hash", PASSWORD)
    await processes.close()
    with pytest.raises(Overloaded):
        await processes.run("hash", PASSWORD)


async def test_close_ends_spare_and_busy_processes() -> None:
    async with hashing(CHEAP) as spare, hashing(16) as busy:  # 16 takes seconds
        await spare.run("hash", PASSWORD)
        working = asyncio.create_task(busy.run("hash", PASSWORD))
        await asyncio.to_thread(eventually, lambda: len(hashing_pids()) == 2)
    with pytest.raises(Overloaded):
        await working
    assert hashing_pids() == []


PARENT = """
import asyncio
from killrvideo_grpc.security.hashing_pool import HashingProcessPool

async def main():
    processes = HashingProcessPool(4)
    await processes.run("hash", "correct horse")
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
