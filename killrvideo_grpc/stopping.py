"""The order to stop, as one event for all who wait for it."""

import queue
import signal
import threading
from collections.abc import Callable


def stop_event() -> threading.Event:
    """Returns an event that is set when SIGTERM or SIGINT comes. A second SIGINT ends the process there and then."""
    event = threading.Event()
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def stop(number: int, frame: object) -> None:
        # Not event.set(): its lock is held by whom the signal may just have interrupted, going to wait for the event.
        signals.put(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who presses Ctrl-C twice wants out now

    set_after(signals.get, event)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return event


def set_after(wait: Callable[[], object], event: threading.Event) -> None:
    """Sets `event` once `wait` returns, which may be never."""

    def run() -> None:
        wait()
        event.set()

    threading.Thread(target=run, daemon=True).start()
