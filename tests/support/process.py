"""The installed command as a process."""

import itertools
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.settings import KEY, ROUNDS

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api.client import Keyspace

BIN = Path(sys.executable).parent
COMMAND = str(BIN / "killrvideo-grpc")
GRPCURL = str(BIN / "grpcurl")


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return an environment without the machine's settings, with the store in `folder`."""
    values = {
        "PATH": os.environ["PATH"],
        "SQLITE_PATH": str(folder / "killrvideo.db"),
        "SECRET_KEY": KEY,
        "BCRYPT_ROUNDS": str(ROUNDS),
        "GRPC_PORT": "0",
        # All tests come from one source. Those of throttling set limits of their own.
        "MAX_FAILURES_PER_SOURCE": "0",
        "MAX_REGISTRATIONS_PER_SOURCE": "0",
    }
    return values | changes


@dataclass
class Service:
    """A running `killrvideo-grpc serve`."""

    process: "subprocess.Popen[str]"
    ports: list[int]
    banner: str
    log: Path

    @property
    def target(self) -> str:
        """The address of the first worker."""
        return f"127.0.0.1:{self.ports[0]}"

    def stop(self) -> int:
        """End the service as an operator does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running(folder: Path, **changes: str) -> Iterator[Service]:
    """Start the service with its working directory in `folder`, wait until it answers, and kill it in the end."""
    log = folder / "service.log"
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [COMMAND, "serve"],
            cwd=folder,
            env=environment(folder, **changes),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    with process:
        try:
            assert process.stdout
            banner = "".join(itertools.takewhile(lambda line: line != "Ctrl-C stops it.\n", process.stdout))
            ports = [int(port) for port in re.findall(r":(\d+)", banner.splitlines()[0])] if banner else []
            assert ports, log.read_text()
            yield Service(process, ports, banner, log)
        finally:
            process.kill()


def astra(keyspace: "Keyspace") -> dict[str, str]:
    """Return the settings for this Data API and keyspace."""
    return {
        "STORE": "astra",
        "ASTRA_DB_API_ENDPOINT": keyspace.endpoint,
        "ASTRA_DB_KEYSPACE": keyspace.name,
        "ASTRA_DB_ENVIRONMENT": keyspace.environment,
        "ASTRA_DB_USERNAME": keyspace.username or "",
        "ASTRA_DB_PASSWORD": keyspace.password or "",
    }


def run(folder: Path, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=environment(folder, **changes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def children(pid: int) -> list[int]:
    """Return the processes that `pid` started, from Linux's process table."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]  # one for each thread
    return [int(child) for children in lists for child in children.split()]


def wait_for_end(pid: int) -> None:
    """Wait until no such process runs."""
    if Path(f"/proc/{pid}").exists():
        descriptor = os.pidfd_open(pid)
        assert select.select([descriptor], [], [], 30)[0]
        os.close(descriptor)
