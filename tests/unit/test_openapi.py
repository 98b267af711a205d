"""The OpenAPI document describes every RPC of the contract. Schemathesis checks it against real responses."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from killrvideo.user.v1 import access_pb2, user_service_pb2

from killrvideo_grpc.edge.contract import OPENAPI
from killrvideo_grpc.edge.openapi import document

Operation = dict[str, Any]

CONTRACT = user_service_pb2.DESCRIPTOR.services_by_name["UserService"]
GENERATED = Path(__file__).parents[2] / "generated"

# All statuses of one RPC of each kind: with and without a body, a token, a query and fields in its path.
STATUSES = {
    "Register": "201 400 408 413 415 422 429 431 500 503 504",
    "Login": "200 400 401 408 413 415 422 429 431 500 503 504",
    "GetUser": "200 400 404 408 413 422 429 431 500 503 504",
    "GetMe": "200 400 401 403 404 408 413 429 431 500 503 504",
    "SearchUsers": "200 400 401 403 404 408 413 422 429 431 500 503 504",
    "AssignRole": "200 400 401 403 404 408 413 415 422 429 431 500 503 504",
}
GRPC_ONLY = {"CheckTokens", "CreatePasswordReset"}
every_rpc = pytest.mark.parametrize("rpc", sorted({*CONTRACT.methods_by_name} - GRPC_ONLY))


def operations() -> dict[tuple[str, str], Operation]:
    """Return the document's operations, by path and HTTP method."""
    paths: dict[str, dict[str, Operation]] = json.loads(OPENAPI.read_text())["paths"]
    return {(path, verb): operation for path, verbs in paths.items() for verb, operation in verbs.items()}


def places(method: MethodDescriptor) -> set[tuple[str, str]]:
    """Return the paths and HTTP methods of an RPC in the contract."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    bindings = [(binding.WhichOneof("pattern"), binding) for binding in (rule, *rule.additional_bindings)]
    return {(getattr(binding, verb), verb) for verb, binding in bindings if verb}


@every_rpc
def test_every_rpc_is_described_at_all_its_paths(rpc: str) -> None:
    method = CONTRACT.methods_by_name[rpc]
    described = {place: operation for place, operation in operations().items() if place in places(method)}
    assert described.keys() == places(method)
    assert rpc in {operation["operationId"] for operation in described.values()}
    is_public = method.GetOptions().Extensions[access_pb2.access] == access_pb2.ACCESS_PUBLIC
    has_body = bool(method.GetOptions().Extensions[annotations_pb2.http].body)
    for operation in described.values():
        assert operation["security"] == ([] if is_public else [{"bearer": []}])
        assert ("requestBody" in operation) == has_body


@pytest.mark.parametrize(("rpc", "statuses"), STATUSES.items())
def test_each_kind_of_rpc_is_described_with_its_statuses(rpc: str, statuses: str) -> None:
    for place in places(CONTRACT.methods_by_name[rpc]):
        assert operations()[place]["responses"].keys() == set(statuses.split())


def test_the_generated_document_is_up_to_date() -> None:
    assert document((GENERATED / "api.binpb").read_bytes()) == json.loads(OPENAPI.read_text())


def test_nothing_else_is_described() -> None:
    served = {place for method in CONTRACT.methods for place in places(method)}
    assert operations().keys() == served | {("/", "get")}
    assert not any(places(CONTRACT.methods_by_name[rpc]) for rpc in GRPC_ONLY)
    tags = {tag["name"] for tag in json.loads(OPENAPI.read_text())["tags"]}
    assert all(set(operation["tags"]) < tags for operation in operations().values())
    names = [operation["operationId"] for operation in operations().values()]
    assert len(names) == len(set(names))


def test_examples_have_all_required_fields() -> None:
    schemas = json.loads(OPENAPI.read_text())["components"]["schemas"]
    bodies = [operation.get("requestBody", {"content": {}})["content"] for operation in operations().values()]
    examples = {
        body["application/json"]["schema"]["$ref"].rpartition("/")[2]: body["application/json"]["example"]
        for body in bodies
        if "example" in body.get("application/json", {})
    }
    assert examples.keys() == {"RegisterRequest", "LoginRequest"}
    assert all(set(example) == set(schemas[name]["required"]) for name, example in examples.items())


def test_a_search_is_described_as_the_array_that_it_answers_with() -> None:
    search = operations()["/api/v1/moderation/users", "get"]
    assert [(parameter["name"], parameter["in"]) for parameter in search["parameters"]] == [
        ("q", "query"),
        ("pageSize", "query"),
        ("pageToken", "query"),
    ]
    answer = search["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/User"},
    }
    assert "X-Next-Page-Token" in answer["headers"]


def test_every_date_says_that_milliseconds_may_be_missing() -> None:
    schemas = json.loads(OPENAPI.read_text())["components"]["schemas"]
    fields = [field for schema in schemas.values() for field in schema["properties"].values()]
    dates = [field["description"] for field in fields if field.get("format") == "date-time"]
    assert len(dates) > 5
    assert {date.partition("RFC 3339")[2] for date in dates} == {" in UTC, with milliseconds unless they are zero."}
