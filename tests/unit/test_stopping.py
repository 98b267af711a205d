"""A signal may come at any moment, also while the main thread is about to wait for it."""

import subprocess
import sys

import pytest

# What the main thread does on its way into Event.wait(): it holds the event's own lock, which no public name reaches.
GOING_TO_WAIT = """
import os, signal
from killrvideo_grpc.stopping import stop_event

stopping = stop_event()
with stopping._cond:
    os.kill(os.getpid(), signal.{})
    for _ in range(10_000):  # the handler runs between two of these
        pass
assert stopping.wait(10)
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_is_not_lost_on_the_way_into_the_wait(number: str) -> None:
    subprocess.run([sys.executable, "-c", GOING_TO_WAIT.format(number)], timeout=20, check=True)


def test_a_second_interrupt_ends_the_process_there_and_then() -> None:
    twice = "import os, signal\nfrom killrvideo_grpc.stopping import stop_event\nstop_event()\n"
    twice += "while True: os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", twice], timeout=20, check=False)
    assert done.returncode == -2
