"""One collection, and the commands that read and write its documents."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson

from tests.support.fake_data_api.errors import Answer, Refusal, unsupported_query
from tests.support.fake_data_api.queries import (
    MOST_IN_VALUES,
    PAGE_SIZE,
    Condition,
    Entry,
    cut_page,
    first,
    project,
    read_filter,
    token,
)
from tests.support.fake_data_api.updates import (
    DOCUMENT_OPERATORS,
    INSERT_OPERATORS,
    MISSING,
    apply_changes,
    read_update,
    split_path,
    value_at,
)

Document = dict[str, Any]

_EXTENDED_VALUES = ({"$date"}, {"$uuid"})


class Collection:
    """Documents by `_id`. The public methods are the API's commands."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.entries: dict[Any, Entry] = {}  # by _key() of the `_id`

    def insertOne(self, document: Document) -> Answer:
        document = {"_id": str(uuid4())} | document
        if _key(document["_id"]) in self.entries:
            status, ids = {"insertedIds": list[Any]()}, [document["_id"]]
            message = "there is a document with this _id"
            raise Refusal("DOCUMENT", "DOCUMENT_ALREADY_EXISTS", message, status=status, documentIds=ids)
        self._put(document)
        return {"status": {"insertedIds": [document["_id"]]}}

    def findOne(self, filter: Any = None, projection: Any = None) -> Answer:
        return _shown(first(self._matching(filter)), projection)

    def find(self, filter: Any = None, projection: Any = None, *, pageState: Any = None) -> Answer:
        """Return a page of 50 documents. Documents selected by `_id`, at most 100, come in one page."""
        size = MOST_IN_VALUES + 1 if filter and "_id" in filter else PAGE_SIZE
        query = [id(self), filter, projection]
        page, state = cut_page(self._matching(filter), query, pageState, size)
        return {"data": {"documents": [project(entry.content, projection) for entry in page], "nextPageState": state}}

    def deleteOne(self, filter: Any = None) -> Answer:
        document = first(self._matching(filter))
        if document is not None:
            del self.entries[_key(document["_id"])]
        return {"status": {"deletedCount": int(document is not None)}}

    def updateOne(self, update: Any, filter: Any = None, *, upsert: bool = False) -> Answer:
        _, _, status = self._change(filter, update, upsert=upsert)
        return {"status": status}

    def findOneAndUpdate(
        self,
        update: Any,
        filter: Any = None,
        projection: Any = None,
        *,
        upsert: bool = False,
        returnDocument: str = "before",
    ) -> Answer:
        before, after, status = self._change(filter, update, upsert=upsert)
        return _shown({"before": before, "after": after}[returnDocument], projection) | {"status": status}

    def _put(self, document: Document) -> None:
        """Write a document, replacing one with the same `_id`. Raise Refusal."""
        if not isinstance(document["_id"], str | int | float) or document["_id"] == "":
            raise Refusal("DOCUMENT", "SHRED_BAD_DOCID_TYPE", "only plain ids are known here")
        for name, value in document.items():
            _check_field(name, value)
        key = _key(document["_id"])
        self.entries[key] = Entry([token(key)], document)

    def _change(
        self, filter: Any, update: Any, *, upsert: bool
    ) -> tuple[Document | None, Document | None, dict[str, Any]]:
        """Change one document, or create it if `upsert` is set. Return it before and after, and the counts."""
        condition = self._condition(filter)
        before = first(self._matching(filter))
        changes = read_update(update, INSERT_OPERATORS if before is None else DOCUMENT_OPERATORS)
        if any(path[0] == "_id" for path, _, _ in changes):
            raise Refusal("UPDATE", "UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID", "an _id never changes")
        after = apply_changes(before or {"_id": _id_of(condition)}, changes)
        if before is None and not upsert:
            return None, None, {"matchedCount": 0, "modifiedCount": 0}
        self._put(after)
        if before is None:
            return None, after, {"matchedCount": 0, "modifiedCount": 0, "upsertedId": after["_id"]}
        return before, after, {"matchedCount": 1, "modifiedCount": int(_key(before) != _key(after))}

    def _condition(self, filter: Any) -> Condition | None:
        """Return the one condition of a filter, if there is one. Raise Refusal."""
        conditions = read_filter(filter)
        indexing = self.options.get("indexing", {"deny": []})
        for path in {condition.path for condition in conditions} - {"_id"}:
            is_indexed = path in indexing["allow"] if "allow" in indexing else not {"*", path} & set(indexing["deny"])
            if not is_indexed:
                raise Refusal("FILTER", "FILTER_PATH_UNINDEXED", f"{path} is not indexed")
        if len(conditions) > 1:
            raise unsupported_query("Apache Cassandra takes one condition in a filter")
        if any((condition.operator, condition.operand) == ("$exists", False) for condition in conditions):
            raise unsupported_query("Apache Cassandra finds no fields that are missing")
        return conditions[0] if conditions else None

    def _matching(self, filter: Any) -> list[Entry]:
        """Return the documents that match a filter, in no order. Raise Refusal."""
        condition = self._condition(filter)
        if condition is None:
            return list(self.entries.values())
        if condition.path == "_id":
            keys = {_key(value) for value in condition.values}
            return [self.entries[key] for key in keys & self.entries.keys()]
        meets = _predicate(condition)
        return [entry for entry in self.entries.values() if meets(entry.content)]


def _id_of(condition: Condition | None) -> Any:
    """Return the `_id` of a document that an upsert makes."""
    is_one_id = condition and (condition.path, condition.operator) == ("_id", "$eq")
    return condition.operand if condition and is_one_id else str(uuid4())


def _shown(document: Document | None, projection: Any) -> Answer:
    return {"data": {"document": None if document is None else project(document, projection)}}


def _predicate(condition: Condition) -> Callable[[Document], bool]:
    """Return whether documents meet a condition. Raise Refusal."""
    names = split_path(condition.path, "FILTER")
    if (condition.operator, condition.operand) == ("$exists", True):
        return lambda document: value_at(document, names) is not MISSING
    if condition.operator != "$eq":
        raise Refusal("FILTER", "FILTER_UNSUPPORTED_OPERATOR", f"{condition.operator} is not known here")
    wanted = _key(condition.operand)

    def equals(document: Document) -> bool:
        value = value_at(document, names)
        candidates = [value, *value] if isinstance(value, list) else [value]
        return value is not MISSING and wanted in map(_key, candidates)

    return equals


def _key(value: Any) -> bytes:
    """Return a key that is different for 1, "1" and true."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _check_field(name: str, value: Any) -> None:
    if name.startswith("$") or not name:
        raise Refusal("DOCUMENT", "SHRED_BAD_FIELD_NAME", f"a field can't have the name {name!r}")
    if isinstance(value, dict) and value.keys() not in _EXTENDED_VALUES:
        for inner_name, inner in value.items():
            _check_field(inner_name, inner)
    elif isinstance(value, list):
        for inner in value:
            _check_field(name, inner)
