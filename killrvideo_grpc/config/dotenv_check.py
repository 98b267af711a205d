"""Check a `.env` file. python-dotenv only logs files and lines that it can't parse."""

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

from dotenv.parser import parse_stream


def dotenv_error(path: Path, settings: Iterable[str]) -> str | None:
    """Return an error message, or None. `settings` are the names of all settings."""
    if not os.path.lexists(path) or path.is_fifo():  # a pipe can be read only once, and pydantic will read it
        return None
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        return f"can't be read: {error.strerror}."
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"can't be read: line {line} is not UTF-8."
    lines = [str(line) for line in _broken_lines(text, settings)]
    if not lines:
        return None
    return (
        "can't be parsed. Each line must have the form NAME=value, and a quote must be closed on the line where it is"
        f" opened. Check line {', '.join(lines)} and what follows."
    )


def _broken_lines(text: str, settings: Iterable[str]) -> Iterable[int]:
    a_setting = re.compile(rf"^\s*(?:export\s+)?({'|'.join(settings)})\s*(?:[=:]|$)", re.IGNORECASE | re.MULTILINE)
    for binding in parse_stream(io.StringIO(text)):
        source = binding.original.string
        # A value of several lines must not contain another setting, and a setting must have a value.
        expected = [] if binding.value is None else [binding.key]
        if binding.error or a_setting.findall(source) not in ([], expected):
            yield binding.original.line + source[: -len(source.lstrip())].count("\n")
