"""One collection: its settings and its documents, and the commands that read and write them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.support.data_api.answers import Answer
from tests.support.data_api.command_fields import read_fields, read_flag, read_options
from tests.support.data_api.document_filters import Condition, read_condition, read_values
from tests.support.data_api.document_updates import read_update
from tests.support.data_api.documents import check_document, id_key
from tests.support.data_api.pages import Page, Position, cut_page, first, position_of
from tests.support.data_api.projections import Projection, read_projection
from tests.support.data_api.refusals import Refusal


@dataclass(frozen=True)
class Stored:
    position: Position
    document: Mapping[str, Any]


class Collection:
    """Documents are replaced and never changed, so what was read may be answered without a lock."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.identity = uuid4().hex
        self.options = options
        self.documents: dict[str, Stored] = {}

    def put(self, document: Mapping[str, Any]) -> None:
        """Keeps the document, in place of one of the same `_id`."""
        key = id_key(document["_id"])
        self.documents[key] = Stored(position_of(key), document)

    def find(self, condition: Condition | None) -> list[Stored]:
        """The documents that meet the condition, in no order."""
        if condition is None:
            return list(self.documents.values())
        if condition.path == "_id":
            keys = {id_key(value) for value in condition.values}
            return [self.documents[key] for key in keys if key in self.documents]
        return [found for found in self.documents.values() if condition.values[0] in read_values(condition, found)]


def insert_one(collection: Collection, body: Any) -> Answer:
    """Decides a race: of several inserts of one `_id` at once, exactly one is accepted."""
    document = read_fields(body, required=("document",))["document"]
    document = {"_id": str(uuid4()), **document} if isinstance(document, dict) else document
    check_document(document)
    if id_key(document["_id"]) in collection.documents:
        raise Refusal(
            "DOCUMENT",
            "DOCUMENT_ALREADY_EXISTS",
            "there is a document of that _id",
            status={"insertedIds": []},
            documentIds=[document["_id"]],
        )
    collection.put(document)
    return Answer(status={"insertedIds": [document["_id"]]})


def find_one(collection: Collection, body: Any) -> Answer:
    fields = read_fields(body, optional=("filter", "projection", "options"))
    read_options(fields)
    found = first(collection.find(read_condition(collection.options, fields.get("filter"))))
    return Answer(data={"document": _projected(found, fields.get("projection"))})


def find(collection: Collection, body: Any) -> Answer:
    """One page of documents, 50 at most; a `$in` on `_id` is answered whole."""
    fields = read_fields(body, optional=("filter", "projection", "options"))
    options = read_options(fields, "limit", "pageState")
    condition = read_condition(collection.options, fields.get("filter"))
    query = json.dumps([collection.identity, fields.get("filter"), fields.get("projection")], sort_keys=True)
    page = cut_page(collection.find(condition), query, options)
    if condition is not None and condition.path == "_id":
        # One query a key in a real API: no page size applies to their sum.
        page = Page(sorted(collection.find(condition), key=lambda found: found.position)[: options.get("limit")], None)
    documents = [_projected(found, fields.get("projection")) for found in page.entries]
    return Answer(data={"documents": documents, "nextPageState": page.next_state}, rows=max(1, len(documents)))


def update_one(collection: Collection, body: Any) -> Answer:
    fields = read_fields(body, required=("update",), optional=("filter", "options"))
    options = read_options(fields, "upsert")
    return Answer(status=_update(collection, fields, upsert=read_flag(options, "upsert"))[2])


def find_one_and_update(collection: Collection, body: Any) -> Answer:
    fields = read_fields(body, required=("update",), optional=("filter", "options", "projection"))
    options = read_options(fields, "upsert", "returnDocument")
    wanted = options.get("returnDocument", "before")
    if wanted not in ("before", "after"):
        raise Refusal("", "COMMAND_FIELD_VALUE_INVALID", "returnDocument is before or after")
    before, after, status = _update(collection, fields, upsert=read_flag(options, "upsert"))
    document = _projected(before if wanted == "before" else after, fields.get("projection"))
    return Answer(data={"document": document}, status=status)


def delete_one(collection: Collection, body: Any) -> Answer:
    fields = read_fields(body, optional=("filter",))
    found = first(collection.find(read_condition(collection.options, fields.get("filter"))))
    if found is not None:
        del collection.documents[id_key(found.document["_id"])]
    return Answer(status={"deletedCount": 0 if found is None else 1})


def _update(
    collection: Collection, fields: dict[str, Any], *, upsert: bool
) -> tuple[Stored | None, Stored | None, dict[str, Any]]:
    """The document before and after, and the counts; nothing is made unless upsert says so."""
    condition = read_condition(collection.options, fields.get("filter"))
    change = read_update(fields["update"])
    before = first(collection.find(condition))
    if before is None and not upsert:
        return None, None, {"matchedCount": 0, "modifiedCount": 0}
    start = before.document if before else _start_of_upsert(condition)
    document = change(start)
    check_document(document)
    collection.put(document)
    after = collection.documents[id_key(document["_id"])]
    if before is None:
        return None, after, {"upsertedId": document["_id"], "matchedCount": 0, "modifiedCount": 0}
    return before, after, {"matchedCount": 1, "modifiedCount": int(document != before.document)}


def _start_of_upsert(condition: Condition | None) -> dict[str, Any]:
    if condition is None or condition.path != "_id" or len(condition.values) != 1:
        raise Refusal("", "COMMAND_FIELD_VALUE_INVALID", "the stand-in upserts by _id only")
    return {"_id": condition.values[0]}


def _projected(found: Stored | None, projection: Any) -> dict[str, Any] | None:
    """The fields that are shown; `_id` is one of them unless it is hidden by name."""
    if found is None:
        return None
    named = dict(projection) if isinstance(projection, dict) else projection
    shows_id = not isinstance(named, dict) or bool(named.pop("_id", True))
    chosen: Projection = read_projection(named)
    names = set(chosen.choose(name for name in found.document if name != "_id"))
    return {name: value for name, value in found.document.items() if name in names or (name == "_id" and shows_id)}
