"""The fields of a command: whatever is not known is refused, so that nothing is built on what goes unheeded."""

import re
from collections.abc import Collection
from typing import Any

from tests.support.data_api.refusals import Refusal

_SCHEMA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")


def read_fields(
    fields: Any, *, required: Collection[str] = (), optional: Collection[str] = (), where: str = "command"
) -> dict[str, Any]:
    """The fields, when they are an object that has all the required ones and no unknown one. Raises Refusal."""
    if not isinstance(fields, dict):
        raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", f"the {where} is not an object")
    unknown = sorted(fields.keys() - set(required) - set(optional))
    if unknown:
        raise Refusal("", "COMMAND_FIELD_UNKNOWN", f"the {where} has fields that are not known: {unknown}")
    missing = sorted(name for name in required if fields.get(name) is None)
    if missing:
        raise Refusal("", "COMMAND_FIELD_VALUE_INVALID", f"the {where} lacks {missing}")
    return fields


def read_options(fields: dict[str, Any], *known: str) -> dict[str, Any]:
    """The command's options, all of them known. Raises Refusal."""
    return read_fields(fields.get("options") or {}, optional=known, where="options")


def read_flag(options: dict[str, Any], name: str) -> bool:
    """An option that is true or false, and false where it is absent. Raises Refusal."""
    value = options.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal("", "REQUEST_STRUCTURE_MISMATCH", f"{name} is not a boolean")
    return bool(value)


def read_schema_name(fields: dict[str, Any]) -> str:
    """The name of a keyspace, table, collection or index. Raises Refusal."""
    name = fields["name"]
    if not isinstance(name, str) or not _SCHEMA_NAME.fullmatch(name):
        raise Refusal("SCHEMA", "UNSUPPORTED_SCHEMA_NAME", f"{name!r} can't be the name of a schema object")
    return name
