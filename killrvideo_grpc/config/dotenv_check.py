"""Finds what is wrong with a `.env` file."""

import io
import os
from pathlib import Path

from dotenv.parser import Binding, parse_stream


def fault_of(path: Path, names: set[str]) -> str | None:
    """Returns what is wrong with the file, if anything, given the names of all settings: "can't be read: …".

    python-dotenv only logs files and lines that it can't parse.
    """
    if not os.path.lexists(path) or path.is_fifo():  # a pipe can be read only once, and pydantic will read it
        return None
    try:
        content = path.read_bytes()
        text = content.decode()
    except OSError as error:
        return f"can't be read: {error.strerror}."
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"can't be read: line {line} is not UTF-8."
    broken = [_line_of(binding) for binding in parse_stream(io.StringIO(text)) if _is_broken(binding, names)]
    if not broken:
        return None
    return (
        "can't be parsed. Each line must have the form NAME=value, and a quote must be closed on the line where it is"
        f" opened. Check line {', '.join(map(str, broken))} and what follows."
    )


def _is_broken(binding: Binding, names: set[str]) -> bool:
    if binding.error or binding.key is None:  # None: a comment
        return binding.error
    if binding.value is None:
        return binding.key.upper() in names or not binding.key.isidentifier()  # NAME alone, or NAME:value
    # A value of several lines belongs to another program, unless it contains a setting: then a quote was not closed.
    lines = binding.original.string.strip().splitlines()
    return len(lines) > 1 and any(_name_in(line) in names for line in lines)


def _name_in(line: str) -> str:
    return line.partition("=")[0].strip().removeprefix("export ").strip().upper()


def _line_of(binding: Binding) -> int:
    before = binding.original.string[: -len(binding.original.string.lstrip())]
    return binding.original.line + before.count("\n")
