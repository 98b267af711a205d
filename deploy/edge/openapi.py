"""Makes generated/openapi.json: what the edge serves, read from the contract. Run through `make generate`.

No maintained generator fits: those there are make OpenAPI 2, need a Go toolchain at `make generate`, or know neither
the statuses nor the problems that this edge answers with (docs/decisions.md).
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from buf.validate import validate_pb2
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pb2
from killrvideo.user.v1 import access_pb2, error_reason_pb2, string_rules_pb2

from deploy.edge.render import (
    DESCRIPTORS,
    GENERATED,
    LISTS,
    PROBLEMS,
    SERVICE,
    SHORT,
    SUCCESS,
    rest_paths,
    takes_query,
)

Json = dict[str, Any]

TIMESTAMP = ".google.protobuf.Timestamp"
SCALARS = {
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING: "string",
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL: "boolean",
    descriptor_pb2.FieldDescriptorProto.TYPE_INT32: "integer",
}
# What JSON Schema can say of the shared rules. The rest is in the descriptions, and the service checks it.
SHARED_RULES: dict[Any, Json] = {
    string_rules_pb2.person_name: {"minLength": 1, "pattern": r"\S"},
    string_rules_pb2.email_address: {"minLength": 1, "format": "idn-email"},
    string_rules_pb2.new_password: {"minLength": 8, "maxLength": 72, "pattern": r"\S"},
    string_rules_pb2.role: {"enum": ["viewer", "creator", "moderator"]},
    string_rules_pb2.reason: {"minLength": 1, "pattern": r"\S"},
}
ANY_CALL = (400, 408, 413, 429, 431, 500, 503, 504)
WITH_BODY = (415, 422)
WITH_TOKEN = (401, 403, 404)
# What an RPC can end in beyond that, by the codes that its comment names.
NAMED = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "FAILED_PRECONDITION": 400}
NEXT_PAGE = {
    "X-Next-Page-Token": {
        "description": "The page token of the next page; absent when this is the last one.",
        "schema": {"type": "string"},
    }
}
VARIABLE = re.compile(r"\{(\w+)\}")
RETRY = {"Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}}
CHALLENGE = {"WWW-Authenticate": {"description": "How to authenticate: Bearer.", "schema": {"type": "string"}}}
HEADERS: dict[int, Json] = {401: CHALLENGE, 429: RETRY, 503: RETRY}


class Contract:
    """The contract with its comments, by full names as descriptors write them: `.killrvideo.user.v1.User`."""

    def __init__(self) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
        self.messages = {f".{file.package}.{message.name}": message for file in files for message in file.message_type}
        self.methods: dict[str, descriptor_pb2.MethodDescriptorProto] = {}
        self.comments: dict[str, str] = {}
        for file in files:
            for service in file.service:
                if f"{file.package}.{service.name}" == SERVICE:
                    self.methods = {method.name: method for method in service.method}
            self.comments |= dict(_comments(file))


def _comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Tells the comments of messages, fields, services and methods, by `.package.Message.field` and the like."""
    for location in file.source_code_info.location:
        comment = " ".join(line.strip() for line in location.leading_comments.strip().splitlines())
        match list(location.path):
            case [4, message]:
                yield f".{file.package}.{file.message_type[message].name}", comment
            case [4, message, 2, field]:
                owner = file.message_type[message]
                yield f".{file.package}.{owner.name}.{owner.field[field].name}", comment
            case [6, service]:
                yield f".{file.package}.{file.service[service].name}", comment
            case [6, service, 2, method]:
                yield (
                    f".{file.package}.{file.service[service].name}.{file.service[service].method[method].name}",
                    comment,
                )


def document() -> Json:
    """Returns the OpenAPI 3.1 document."""
    contract, schemas = Contract(), {"Problem": _problem_schema()}
    paths: dict[str, Json] = {"/": _welcome()}
    for path, methods in sorted(rest_paths().items()):
        paths[path] = {verb.lower(): _operation(contract, rpc, path, schemas) for verb, rpc in methods.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "KillrVideo user service",
            "version": "v1",
            "description": contract.comments[f".{SERVICE}"],
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {str(status): _problem_response(status) for status in PROBLEMS},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(contract: Contract, rpc: str, path: str, schemas: dict[str, Json]) -> Json:
    method, variables = contract.methods[rpc], VARIABLE.findall(path)
    short = next((end for end in SHORT if path.endswith(end)), None)
    is_public = method.options.Extensions[access_pb2.access] == access_pb2.ACCESS_PUBLIC
    has_body = bool(method.options.Extensions[annotations_pb2.http].body)
    has_query = takes_query(rpc)
    summary, _, errors = contract.comments[f".{SERVICE}.{rpc}"].partition("Errors include:")
    statuses = {*ANY_CALL, *(WITH_BODY if has_body else ()), *(() if is_public else WITH_TOKEN)}
    statuses |= {status for code, status in NAMED.items() if code in errors}
    statuses |= {422} if variables or has_query else set()
    operation: Json = {
        "operationId": _camel(short) if short else rpc,
        "summary": summary.strip(),
        "description": f"Errors include: {errors.strip()}",
        "security": [] if is_public else [{"bearer": []}],
        "responses": {SUCCESS.get(rpc, "200"): _success(contract, rpc, schemas)}
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)},
    }
    fields = {field.name: field for field in contract.messages[method.input_type].field}
    parameters = [(name, "path", fields[name]) for name in variables]
    if has_query:
        parameters += [(field.json_name, "query", field) for field in fields.values() if field.name not in variables]
    if parameters:
        operation["parameters"] = [
            {
                "name": name,
                "in": place,
                "required": place == "path",
                "description": contract.comments[f"{method.input_type}.{field.name}"],
                "schema": _property(contract, field, schemas),
            }
            for name, place, field in parameters
        ]
    if has_body:
        operation["requestBody"] = _request_body(contract, method.input_type, variables, schemas, is_short=bool(short))
    return operation


def _camel(end: str) -> str:
    return "".join(word.capitalize() for word in end.strip("/").split("-"))


def _success(contract: Contract, rpc: str, schemas: dict[str, Json]) -> Json:
    message = contract.messages[contract.methods[rpc].output_type]
    if rpc not in LISTS:
        schema = _reference(contract, contract.methods[rpc].output_type, schemas)
        return {"description": "Done.", "content": {"application/json": {"schema": schema}}}
    (items,) = (field for field in message.field if field.name == LISTS[rpc])
    schema = _property(contract, items, schemas)
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}, "headers": NEXT_PAGE}


def _request_body(
    contract: Contract, name: str, variables: list[str], schemas: dict[str, Json], *, is_short: bool
) -> Json:
    """Describes the fields that are not in the path; a short path stands for one with a role in it."""
    in_path = {*variables, *(["role"] if is_short else [])}
    left = [field for field in contract.messages[name].field if field.name not in in_path]
    if not in_path:
        schema = _reference(contract, name, schemas)
    else:
        required = [field.json_name for field in left if _is_required(field) and not is_short]
        schema = {"type": "object", "properties": _properties(contract, name, left, schemas)}
        schema |= {"required": required} if required else {}
    is_needed = not is_short and any(map(_is_required, left))
    return {"required": is_needed, "content": {"application/json": {"schema": schema}}}


def _properties(
    contract: Contract, name: str, fields: Iterable[descriptor_pb2.FieldDescriptorProto], schemas: dict[str, Json]
) -> Json:
    return {
        field.json_name: _property(contract, field, schemas)
        | {"description": contract.comments[f"{name}.{field.name}"]}
        for field in fields
    }


def _reference(contract: Contract, name: str, schemas: dict[str, Json]) -> Json:
    short = name.rpartition(".")[2]
    if short not in schemas:
        message = contract.messages[name]
        schemas[short] = {
            "type": "object",
            "description": contract.comments[name],
            "properties": _properties(contract, name, message.field, schemas),
        }
        is_request = name in {method.input_type for method in contract.methods.values()}
        required = [field.json_name for field in message.field if (_is_required if is_request else _is_printed)(field)]
        schemas[short] |= {"required": required} if required else {}
    return {"$ref": f"#/components/schemas/{short}"}


def _property(contract: Contract, field: descriptor_pb2.FieldDescriptorProto, schemas: dict[str, Json]) -> Json:
    if field.type_name == TIMESTAMP:
        kind: Json = {"type": "string", "format": "date-time"}
    elif field.type_name:
        kind = _reference(contract, field.type_name, schemas)
    else:
        name = SCALARS[field.type]
        # In the JSON mapping, null means the same as a missing field.
        kind = {"type": [name, "null"] if field.proto3_optional else name} | _rules(field)
    if field.label != field.LABEL_REPEATED:
        return kind
    rules = field.options.Extensions[validate_pb2.field].repeated
    limits = {"minItems": rules.min_items} if rules.min_items else {}
    return {"type": "array", "items": kind} | limits | ({"maxItems": rules.max_items} if rules.max_items else {})


def _rules(field: descriptor_pb2.FieldDescriptorProto) -> Json:
    rules = field.options.Extensions[validate_pb2.field]
    text = rules.repeated.items.string if field.label == field.LABEL_REPEATED else rules.string
    found: Json = {"minLength": 1} if rules.required else {}
    for rule, schema in SHARED_RULES.items():
        found |= schema if text.Extensions[rule] else {}
    found |= {"format": "uuid"} if text.uuid and not rules.ignore else {}
    found |= {"maxLength": text.max_len} if text.max_len else {}
    if rules.HasField("int32"):
        found |= {"minimum": rules.int32.gte, "maximum": rules.int32.lte}
    return found


def _is_required(field: descriptor_pb2.FieldDescriptorProto) -> bool:
    behaviors: Iterable[int] = field.options.Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


def _is_printed(field: descriptor_pb2.FieldDescriptorProto) -> bool:
    """Says whether an answer always has the field: scalars and lists are printed when they are empty too."""
    return field.label == field.LABEL_REPEATED or not (field.type_name or field.proto3_optional)


def _problem_schema() -> Json:
    text = {"type": "string"}
    reasons = [name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()[1:]]
    violation = {
        "type": "object",
        "properties": {"field": text, "description": text},
        "required": ["field", "description"],
    }
    return {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text | {"description": "A sentence for people."},
            "instance": text | {"description": "The path of the request."},
            "code": text | {"enum": reasons, "description": "The reason, for programs; absent where the edge answers."},
            "errors": {"type": "array", "items": violation, "description": "Each broken rule, by its JSON path."},
        },
        "required": ["type", "title", "status", "detail", "instance"],
    }


def _problem_response(status: int) -> Json:
    response: Json = {
        "description": PROBLEMS[status][0],
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return response | ({"headers": HEADERS[status]} if status in HEADERS else {})


def _welcome() -> Json:
    schema = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    answers: Json = {"200": {"description": "Done.", "content": {"application/json": {"schema": schema}}}}
    answers |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in (400, 431)}
    return {"get": {"operationId": "Welcome", "summary": "Welcomes.", "security": [], "responses": answers}}


def main() -> None:
    """Writes the document."""
    (GENERATED / "openapi.json").write_text(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
