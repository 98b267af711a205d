"""Logs to standard error, one JSON object or one line of text per event."""

import asyncio
import atexit
import contextlib
import io
import json
import logging
import sys
from collections import deque
from datetime import UTC, datetime
from typing import Literal

import orjson
import structlog

# Libraries that are silenced, because their messages quote requests, answers and values. The stores log what matters.
QUIET = ("astrapy", "httpx", "httpcore", "grpc", "asyncio")


WRITE_SECONDS = 0.01


class _StandardError(io.TextIOBase):
    """Standard error with a buffer, flushed every 10 ms; unbuffered where no event loop runs.

    A system call per line would be slow under load. If the disk is full or the pipe is closed, lines are lost but no
    call fails. A process that is killed loses the lines of its last 10 ms.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        atexit.register(self._write_lines)

    def write(self, text: str) -> int:
        is_first = not self._lines
        self._lines.append(text)
        if is_first:  # otherwise a flush is scheduled already
            try:
                asyncio.get_running_loop().call_later(WRITE_SECONDS, self._write_lines)
            except RuntimeError:
                self._write_lines()
        return len(text)

    def write_line(self, line: str) -> None:
        """Writes a line that structlog has rendered. structlog calls it by the name of the log level."""
        self.write(line + "\n")

    debug = info = warning = error = critical = write_line

    def _write_lines(self) -> None:
        lines = []
        with contextlib.suppress(IndexError):  # another thread may write at the same time
            while True:
                lines.append(self._lines.popleft())
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("".join(lines))  # standard error is line-buffered, so this flushes


def configure_logs(level: str, style: Literal["json", "text"]) -> None:
    """Sends the process's logs to standard error. Libraries log from WARNING up, and those in QUIET nothing."""
    output = _StandardError()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _add_time if style == "json" else structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Neither renders exceptions, whose messages and local variables may contain secrets.
    render: list[structlog.typing.Processor] = [
        _to_json if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    ]
    threshold = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: output,  # structlog's own loggers lock and flush for each line
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _without_exception],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _add_time(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["timestamp"] = datetime.now(UTC)  # orjson writes it in ISO 8601 faster than Python can
    return event


def _to_json(logger: object, name: str, event: structlog.typing.EventDict) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z).decode()
    except TypeError:  # a string that can't be encoded, such as one with a lone surrogate
        return json.dumps(event, default=_spell)


def _spell(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else repr(value)


def _without_exception(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("exc_info", None)
    return event
