"""One collection, and the commands that read and write its documents."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from tests.support.data_api.documents import (
    DOCUMENT_OPERATORS,
    MISSING,
    MOST_IN_VALUES,
    Condition,
    apply_changes,
    project,
    read_filter,
    read_update,
    set_value,
    split_path,
    value_at,
)
from tests.support.data_api.errors import Refusal, unsupported_query
from tests.support.data_api.pages import PAGE_SIZE, Entry, cut_page, ordered, token

Fields = dict[str, Any]
Answer = dict[str, Any]
Document = dict[str, Any]

_EXTENDED_VALUES = ({"$date"}, {"$uuid"})


class Collection:
    """Documents by `_id`; a command runs under the lock of the whole database, so that it is atomic."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self._entries: dict[str, Entry] = {}

    def documents(self) -> list[Document]:
        return [entry.content for entry in self._entries.values()]

    def get(self, document_id: Any) -> Document | None:
        entry = self._entries.get(_key(document_id))
        return entry.content if entry else None

    def put(self, document: Document) -> None:
        key = _key(document["_id"])
        self._entries[key] = Entry([token(key)], document)

    def remove(self, document_id: Any) -> None:
        self._entries.pop(_key(document_id), None)

    def insert(self, document: Any) -> Any:
        """Inserts a document under an `_id` that is free, and returns the `_id`. Raises Refusal."""
        document = {"_id": str(uuid4())} | document
        _check_document(document)
        if self.get(document["_id"]) is not None:
            message, ids = "there is a document with this _id", [document["_id"]]
            raise Refusal("DOCUMENT", "DOCUMENT_ALREADY_EXISTS", message, documentIds=ids)
        self.put(document)
        return document["_id"]

    def condition(self, given: Any) -> Condition | None:
        """Returns the one condition of a filter, if there is one. Raises Refusal."""
        conditions = read_filter(given)
        for condition in conditions:
            if condition.path != "_id" and not self._is_indexed(condition.path):
                raise Refusal("FILTER", "FILTER_PATH_UNINDEXED", f"{condition.path} is not indexed")
        if len(conditions) > 1:
            raise unsupported_query("Apache Cassandra takes one condition in a filter")
        return conditions[0] if conditions else None

    def matching(self, condition: Condition | None) -> list[Entry]:
        """Returns the documents that meet the condition, in no order. Raises Refusal."""
        if condition is None:
            return list(self._entries.values())
        if condition.path == "_id":
            keys = {_key(value) for value in condition.values}
            return [self._entries[key] for key in keys if key in self._entries]
        return [entry for entry in self._entries.values() if _meets(entry.content, condition)]

    def first(self, given: Any) -> Document | None:
        entries = ordered(self.matching(self.condition(given)))
        return entries[0].content if entries else None

    def _is_indexed(self, path: str) -> bool:
        indexing = self.options.get("indexing", {"deny": []})
        return path in indexing["allow"] if "allow" in indexing else not {"*", path} & set(indexing["deny"])


def insert_one(collection: Collection, fields: Fields) -> Answer:
    try:
        return {"status": {"insertedIds": [collection.insert(fields["document"])]}}
    except Refusal as refusal:
        if "documentIds" in refusal.error:
            refusal.body["status"] = {"insertedIds": []}
        raise


def insert_many(collection: Collection, fields: Fields) -> Answer:
    """Inserts every document that can be inserted; the stand-in knows no other way."""
    if fields["options"] != {"ordered": False, "returnDocumentResponses": True}:
        raise Refusal("", "COMMAND_FIELD_VALUE_INVALID", "only unordered inserts with document responses are known")
    responses: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for document in fields["documents"]:
        try:
            responses.append({"_id": collection.insert(document), "status": "OK"})
        except Refusal as refusal:
            responses.append({"_id": document.get("_id"), "status": "ERROR", "errorsIdx": len(errors)})
            errors.append(refusal.error)
    return {"status": {"documentResponses": responses}} | ({"errors": errors} if errors else {})


def find_one(collection: Collection, fields: Fields) -> Answer:
    return {"data": {"document": _shown(collection.first(fields.get("filter")), fields)}}


def find(collection: Collection, fields: Fields) -> Answer:
    """Answers a page of 50 documents; those that `_id` names come on one page, which are 100 at most."""
    condition = collection.condition(fields.get("filter"))
    found = collection.matching(condition)
    by_id = condition is not None and condition.path == "_id"
    query = json.dumps([id(collection), fields.get("filter"), fields.get("projection")])
    size = MOST_IN_VALUES + 1 if by_id else PAGE_SIZE
    page, state = cut_page(found, query, fields["options"], size=size)
    return {"data": {"documents": [_shown(entry.content, fields) for entry in page], "nextPageState": state}}


def count_documents(collection: Collection, fields: Fields) -> Answer:
    return {"status": {"count": len(collection.matching(collection.condition(fields.get("filter"))))}}


def estimated_document_count(_: Collection, __: Fields) -> Answer:
    """Answers 0, as a real one does while nothing has been flushed to disk, which is what it counts."""
    return {"status": {"count": 0}}


def update_one(collection: Collection, fields: Fields) -> Answer:
    return {"status": _change(collection, fields, _updated(fields))[2]}


def find_one_and_update(collection: Collection, fields: Fields) -> Answer:
    return _find_one_and_change(collection, fields, _updated(fields))


def find_one_and_replace(collection: Collection, fields: Fields) -> Answer:
    return _find_one_and_change(collection, fields, lambda before, _: fields["replacement"] | {"_id": before["_id"]})


def delete_one(collection: Collection, fields: Fields) -> Answer:
    return {"status": _delete(collection, fields)[1]}


def find_one_and_delete(collection: Collection, fields: Fields) -> Answer:
    document, status = _delete(collection, fields)
    return {"data": {"document": _shown(document, fields)}, "status": status}


# Makes the new document from the old one, or from an `_id` alone where the flag says that it is missing.
_Change = Callable[[Document, bool], Document]


def _updated(fields: Fields) -> _Change:
    when_missing = DOCUMENT_OPERATORS | {"$setOnInsert": set_value}

    def change(before: Document, is_missing: bool) -> Document:
        changes = read_update(fields["update"], when_missing if is_missing else DOCUMENT_OPERATORS)
        if any(path[0] == "_id" for path, _, _ in changes):
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID", "an _id never changes")
        return apply_changes(before, changes)

    return change


def _find_one_and_change(collection: Collection, fields: Fields, change: _Change) -> Answer:
    before, after, status = _change(collection, fields, change)
    wanted = {"before": before, "after": after}[fields["options"].get("returnDocument", "before")]
    return {"data": {"document": _shown(wanted, fields)}, "status": status}


def _change(
    collection: Collection, fields: Fields, change: _Change
) -> tuple[Document | None, Document | None, dict[str, Any]]:
    """Changes one document, or makes it if `upsert` is set; returns it before and after, and the counts."""
    condition = collection.condition(fields.get("filter"))
    before = collection.first(fields.get("filter"))
    after = change(before or {"_id": _id_of(condition)}, before is None)
    if before is None and not fields["options"].get("upsert"):
        return None, None, {"matchedCount": 0, "modifiedCount": 0}
    _check_document(after)
    collection.put(after)
    if before is None:
        return None, after, {"matchedCount": 0, "modifiedCount": 0, "upsertedId": after["_id"]}
    return before, after, {"matchedCount": 1, "modifiedCount": int(_key(before) != _key(after))}


def _delete(collection: Collection, fields: Fields) -> tuple[Document | None, dict[str, Any]]:
    document = collection.first(fields.get("filter"))
    if document is not None:
        collection.remove(document["_id"])
    return document, {"deletedCount": int(document is not None)}


def _id_of(condition: Condition | None) -> Any:
    is_one_id = condition and (condition.path, condition.operator) == ("_id", "$eq")
    return condition.operand if condition and is_one_id else str(uuid4())


def _shown(document: Document | None, fields: Fields) -> Document | None:
    return None if document is None else project(document, fields.get("projection"))


def _meets(document: Document, condition: Condition) -> bool:
    value = value_at(document, split_path(condition.path, "FILTER"))
    if (condition.operator, condition.operand) == ("$exists", True):
        return value is not MISSING
    if condition.operator != "$eq":
        raise Refusal("FILTER", "FILTER_UNSUPPORTED_OPERATOR", f"{condition.operator} is not known here")
    candidates = [value, *value] if isinstance(value, list) else [value]
    return value is not MISSING and _key(condition.operand) in map(_key, candidates)


def _key(value: Any) -> str:
    """Returns what tells values apart: 1, "1" and true are three."""
    return json.dumps(value, sort_keys=True)


def _check_document(document: Mapping[str, Any]) -> None:
    """Raises Refusal for what no collection takes."""
    document_id = document["_id"]
    if not isinstance(document_id, str | int | float) or document_id == "":
        raise Refusal("DOCUMENT", "SHRED_BAD_DOCID_TYPE", "only plain ids are known here")
    for name, value in document.items():
        _check_field(name, value)


def _check_field(name: str, value: Any) -> None:
    if name.startswith("$") or not name:
        raise Refusal("DOCUMENT", "SHRED_BAD_FIELD_NAME", f"a field can't have the name {name!r}")
    if isinstance(value, dict) and value.keys() not in _EXTENDED_VALUES:
        for inner_name, inner in value.items():
            _check_field(inner_name, inner)
    elif isinstance(value, list):
        for inner in value:
            _check_field(name, inner)
