"""Starts the servers that are measured, reports their CPU time and memory, and stops them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.process import ABSENT, COMMAND, children, environment

ROOT = Path(__file__).parents[2]
# Measures this source tree, even if another version is installed.
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "generated"), ABSENT])
# The settings of production; those of the tests make the service cheaper.
SHIPPED = {"LOG_LEVEL": "INFO", "LOG_FORMAT": "json", "BCRYPT_ROUNDS": "12", "PYTHONPATH": PYTHONPATH}

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
END_SECONDS = 15
PORT = re.compile(r"\b\d{4,5}\b")


@dataclass(frozen=True)
class Server:
    """A running server. `first_line` is what it printed once it answered, with its `ports`."""

    pid: int
    first_line: str
    ports: list[int]

    @property
    def address(self) -> str:
        """The address of its first port."""
        return f"127.0.0.1:{self.ports[0]}"


@contextmanager
def running(command: list[str], folder: Path, **settings: str) -> Iterator[Server]:
    """Run a server in `folder`, with its log in a file there. Yield once its first line is printed."""
    log = folder / "server.log"
    with log.open("a") as stderr, _started(command, folder, settings, stderr.fileno()) as process:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(command)} did not start:\n{log.read_text()}")
        yield Server(process.pid, line.strip(), [int(port) for port in PORT.findall(line)])


@contextmanager
def _started(
    command: list[str], folder: Path, settings: dict[str, str], stderr: int
) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder) | SHIPPED | settings,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,  # Ctrl-C only reaches the benchmark, which then stops the server
    )
    with process:
        try:
            yield process
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:  # even after a second Ctrl-C
        process.kill()


def service(folder: Path, **settings: str) -> AbstractContextManager[Server]:
    """Run the service as its users start it."""
    return running([COMMAND, "serve"], folder, **settings)


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a Python module."""
    return [sys.executable, "-m", name, *arguments]


def cpu_seconds(*pids: int) -> float:
    """Return the CPU time that these processes have used so far."""
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in pids) / CLOCK_TICKS


def resident_megabytes(pid: int) -> float:
    """Return a process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def descendants(pid: int, name: str) -> list[int]:
    """Return the processes named `name` among `pid` and its descendants."""
    found = [pid] if Path(f"/proc/{pid}/comm").read_text().strip() == name else []
    return found + [one for child in children(pid) for one in descendants(child, name)]


def _stat(pid: int) -> list[str]:
    # From the third field on, because the second, the name in parentheses, may contain spaces.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
