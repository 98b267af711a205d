"""Reads settings, and explains what is wrong with them."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from killrvideo_grpc.config.dotenv_check import dotenv_error
from killrvideo_grpc.config.settings import ENV_FILE, Settings
from killrvideo_grpc.domain.errors import SetupError

AnySettings = TypeVar("AnySettings", bound=Settings)


def load_settings(kind: type[AnySettings]) -> AnySettings:
    """Read `Settings` or a subclass. Raise SetupError, whose message explains every wrong setting."""
    if message := dotenv_error(Path(ENV_FILE), kind.model_fields):
        raise SetupError(f"{ENV_FILE} in this directory {message}")
    try:
        return kind()
    except ValidationError as error:
        lines = [
            f"  {_setting_name(detail['loc'])}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise SetupError("These settings are missing or invalid:\n" + "\n".join(lines)) from None


def _setting_name(location: tuple[int | str, ...]) -> str:
    """Return the name of a setting and, in a list, the number of the entry."""
    entry = f", entry {location[1] + 1}" if len(location) > 1 and isinstance(location[1], int) else ""
    return f"{str(location[0]).upper()}{entry}"
