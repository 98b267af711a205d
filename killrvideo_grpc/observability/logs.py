"""Logging to standard error: one JSON object or one line of text per event."""

import asyncio
import atexit
import contextlib
import io
import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor

# Their messages quote requests, responses and values. The stores log what matters.
SILENCED_LOGGERS = ("astrapy", "httpx", "httpcore", "grpc", "asyncio")
FLUSH_INTERVAL = 0.01  # seconds


class _BufferedStandardError(io.TextIOBase):
    """Standard error with a buffer, flushed every FLUSH_INTERVAL; unbuffered where no event loop runs.

    structlog and logging flush each line, a system call that is slow under load. If the disk is full or the pipe is
    closed, lines are lost but no call fails.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._lock = threading.RLock()  # a finalizer may log at any time
        atexit.register(self._write_lines)

    def write(self, text: str) -> int:
        with self._lock:
            is_first = not self._lines
            self._lines.append(text)
        if is_first:  # for further lines, a flush is scheduled already
            try:
                asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self._write_lines)
            except RuntimeError:
                self._write_lines()
        return len(text)

    def _write_lines(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("".join(lines))  # flushes: standard error is line-buffered


def configure_logs(level: str, style: Literal["json", "text"]) -> None:
    """Send the process's logs to standard error. Libraries log from WARNING up, except for SILENCED_LOGGERS."""
    output = _BufferedStandardError()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _without_exception,
    ]
    render: list[Processor]
    if style == "json":
        render = [_add_time, _to_json]
    else:
        render = [structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.dev.ConsoleRenderer(colors=False)]
    threshold = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(output),  # type: ignore[arg-type] # needs no more of a TextIO
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    for name in SILENCED_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _add_time(logger: object, name: str, event: EventDict) -> EventDict:
    event["timestamp"] = datetime.now(UTC)  # orjson formats it faster than Python
    return event


def _to_json(logger: object, name: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z).decode()
    except TypeError:  # a string that can't be encoded, such as one with a lone surrogate
        return json.dumps(event, default=_to_text)


def _to_text(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else repr(value)


def _without_exception(logger: object, name: str, event: EventDict) -> EventDict:
    """Remove the exception, whose message and local variables may contain secrets."""
    event.pop("exc_info", None)
    return event
