"""Run every command of the README, and compare the output."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from tests.support.ports import free_port
from tests.support.process import environment

ROOT = Path(__file__).parents[2]
CLONE = "git clone https://github.com/KillrVideo/killrvideo-grpc && cd killrvideo-grpc"
CHANGING = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z")


def sessions() -> list[list[str]]:
    """Return the lines of each session in the README."""
    return [
        block.splitlines() for block in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    ]


def split(session: list[str]) -> tuple[list[str], list[str]]:
    """Separate the commands, with their continuation lines, from their output."""
    commands, printed, continues = list[str](), list[str](), False
    for line in session:
        if line.startswith("$ ") or continues:
            commands.append(line.removeprefix("$ "))
            continues = line.endswith("\\")
        else:
            printed.append(line)
    return commands, printed


@contextmanager
def started(target: str, settings: dict[str, str]) -> Iterator[str]:
    """Run a target of the Makefile, yield the address that it prints, and stop it with Ctrl-C."""
    process = subprocess.Popen(
        ["make", "--silent", f"VENV={sys.prefix}", f"PYTHON={sys.executable}", target],
        cwd=ROOT,
        env=settings,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            banner = "".join(takewhile(lambda line: line != "Ctrl-C stops it.\n", process.stdout or ()))
            yield re.findall(r"127\.0\.0\.1:\d+", banner)[0]
        finally:
            os.killpg(process.pid, signal.SIGINT)


def typed(commands: list[str], settings: dict[str, str], addresses: dict[str, str]) -> str:
    script = "\n".join(commands)
    for written, actual in addresses.items():
        assert written in script
        script = script.replace(written, actual)
    done = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return CHANGING.sub("(changes)", done.stdout)


def test_from_clone_to_logged_in(tmp_path: Path) -> None:
    first, second, third, fourth = sessions()
    settings = environment(tmp_path, SECRET_KEY="", HTTP_PORT=str(free_port()))
    settings["PATH"] = f"{Path(sys.executable).parent}:{settings['PATH']}"
    assert split(first) == ([CLONE, "make run"], [])
    with started("run", settings) as address:
        commands, printed = split(second)
        found = typed(commands, settings, {"127.0.0.1:50051": address})
        assert found.splitlines() == CHANGING.sub("(changes)", "\n".join(printed)).splitlines()
    assert split(third) == (["make web"], [])
    with started("web", settings) as address:
        commands, printed = split(fourth)
        found = typed(commands, settings, {"127.0.0.1:8080": address})
        assert found.startswith(CHANGING.sub("(changes)", printed[0]).removesuffix("…}"))
