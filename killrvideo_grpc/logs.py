"""Log lines: one JSON object or one line of text each, on standard error."""

import contextlib
import io
import logging
import sys
from typing import Literal, TextIO, cast

import structlog

# They quote requests, answers and values: what is worth saying of them, the stores say.
QUIET = ("astrapy", "httpx", "httpcore", "grpc", "asyncio")


class _Unfailing(io.TextIOBase):
    """Standard error, where a full disk or a closed pipe loses lines and fails no call."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
        return len(text)


def _without_exception(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("exc_info", None)
    return event


def configure_logs(level: str, style: Literal["json", "text"]) -> None:
    """Sends the process's logs to standard error. Other libraries' lines are kept from WARNING on, some not at all."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Neither shows exceptions, whose texts and local variables may hold anything.
    render: list[structlog.typing.Processor] = [
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    ]
    threshold = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Unfailing())),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_Unfailing())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _without_exception],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
