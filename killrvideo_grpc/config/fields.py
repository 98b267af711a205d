"""Types of settings, with the checks that don't depend on other settings."""

import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

MAX_PORT = 65535

Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
Attempts = Annotated[int, Field(ge=0, le=1_000_000)]  # 0: no limit
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
TokenClaim = Annotated[Text, Field(max_length=200)]


def _trimmed(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("must not contain line breaks or other control characters")
    return SecretStr(text)


def _expanded(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("must not contain NUL characters")
    try:
        return Path(str(path).strip()).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~ and a user without a home directory") from None


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from None
    return path


Secret = Annotated[SecretStr, AfterValidator(_trimmed)]
ExpandedPath = Annotated[Path, AfterValidator(_expanded)]
ReadableFile = Annotated[ExpandedPath, AfterValidator(_readable)]
