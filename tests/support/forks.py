"""The command in processes that are forked from one that has imported it already, which is ten times as fast."""

import atexit
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.support.preloaded"])
NAME = "killrvideo-grpc"


class Fork:
    """A process that runs the command, with the methods of `subprocess.Popen`. Its standard input is empty."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], variables: dict[str, str], output: Path, errors: Path
    ) -> None:
        """Start it in `folder`. What it writes is appended to the files `output` and `errors`."""
        self.args = [NAME, *arguments]
        self._process = FORKS.Process(target=_run, args=(folder, arguments, variables, output, errors), daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(folder: Path, arguments: Sequence[str], variables: dict[str, str], output: Path, errors: Path) -> None:
    from killrvideo_grpc.__main__ import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for path, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    try:
        main(arguments, prog_name=NAME)
    finally:
        atexit._run_exitfuncs()  # multiprocessing skips them, and the last log lines are written there
