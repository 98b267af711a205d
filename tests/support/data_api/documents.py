"""What a document of a collection may be, and the paths into it."""

import json
from collections.abc import Mapping
from typing import Any

from tests.support.data_api.refusals import Refusal

_EXTENSIONS = {"$date", "$uuid", "$objectId", "$binary"}
MISSING = object()


def id_key(document_id: Any) -> str:
    """What distinguishes ids: 1 and "1" are two."""
    return json.dumps(document_id)


def check_document(document: Any) -> None:
    """Raises Refusal for what no collection takes."""
    if not isinstance(document, dict):
        raise Refusal("DOCUMENT", "SHRED_BAD_DOCUMENT_TYPE", "a document is an object")
    check_id(document["_id"])
    for name, value in document.items():
        _check_field(name, value)


def check_id(document_id: Any) -> None:
    """Raises Refusal for an id of another type than string, number and boolean, and for an empty one."""
    if not isinstance(document_id, str | int | float):
        raise Refusal("DOCUMENT", "SHRED_BAD_DOCID_TYPE", "the stand-in knows plain ids only")
    if document_id == "":
        raise Refusal("DOCUMENT", "SHRED_BAD_DOCID_VALUE", "an id is not empty")


def value_at(document: Any, path: str) -> Any:
    """The value that a dotted path leads to, or MISSING."""
    value = document
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return MISSING
        value = value[name]
    return value


def parent_at(document: dict[str, Any], path: str, *, make: bool) -> tuple[dict[str, Any] | None, str]:
    """The object that holds the end of the path, and the name there. None when it is missing and not made."""
    *way, name = path.split(".")
    holder: Any = document
    for step in way:
        if not make and step not in holder:
            return None, name
        holder = holder.setdefault(step, {})
        if not isinstance(holder, dict):
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATION_PATH", "the path leads through no object")
    return holder, name


def _check_field(name: str, value: Any) -> None:
    if name.startswith("$") or not name:
        raise Refusal("DOCUMENT", "SHRED_BAD_FIELD_NAME", f"{name!r} can't be the name of a field")
    if isinstance(value, dict) and value.keys() & _EXTENSIONS:
        if len(value) != 1 or not isinstance(value.get("$date", 0), int):
            raise Refusal("DOCUMENT", "SHRED_BAD_EJSON_VALUE", "not a value of that extension of JSON")
    elif isinstance(value, dict):
        for inner_name, inner in value.items():
            _check_field(inner_name, inner)
    elif isinstance(value, list):
        for inner in value:
            _check_field(name, inner)
