"""The signals that ask the process to stop."""

import asyncio
import signal


def stop_event() -> asyncio.Event:
    """Return an event that SIGTERM, SIGINT or, unless `nohup` started the process, SIGHUP sets.

    A second SIGINT ends the process at once.
    """
    event, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        event.set()
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop)
    return event
