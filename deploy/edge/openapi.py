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

from deploy.edge.render import DESCRIPTORS, GENERATED, PROBLEMS, SERVICE, SUCCESS, rest_paths

Json = dict[str, Any]

TIMESTAMP = ".google.protobuf.Timestamp"
SCALARS = {
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING: "string",
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL: "boolean",
}
# What JSON Schema can say of the shared rules. The rest is in the descriptions, and the service checks it.
SHARED_RULES: dict[Any, Json] = {
    string_rules_pb2.person_name: {"minLength": 1, "pattern": r"\S"},
    string_rules_pb2.email_address: {"minLength": 1, "format": "idn-email"},
    string_rules_pb2.new_password: {"minLength": 8, "maxLength": 72, "pattern": r"\S"},
}
ANY_CALL = (400, 408, 413, 429, 431, 500, 503, 504)
WITH_BODY = (415, 422)
WITH_TOKEN = (401, 403, 404)
# What an RPC can end in beyond that, by the codes that its comment names.
NAMED = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404}
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
        variables = VARIABLE.findall(path)
        paths[path] = {verb.lower(): _operation(contract, rpc, variables, schemas) for verb, rpc in methods.items()}
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


def _operation(contract: Contract, rpc: str, variables: list[str], schemas: dict[str, Json]) -> Json:
    method = contract.methods[rpc]
    is_public = method.options.Extensions[access_pb2.access] == access_pb2.ACCESS_PUBLIC
    has_body = bool(method.options.Extensions[annotations_pb2.http].body)
    summary, _, errors = contract.comments[f".{SERVICE}.{rpc}"].partition("Errors include:")
    statuses = {*ANY_CALL, *(WITH_BODY if has_body else ()), *(() if is_public else WITH_TOKEN)}
    statuses |= {status for code, status in NAMED.items() if code in errors} | ({422} if variables else set())
    operation: Json = {
        "operationId": rpc,
        "summary": summary.strip(),
        "description": f"Errors include: {errors.strip()}",
        "security": [] if is_public else [{"bearer": []}],
        "responses": {
            SUCCESS.get(rpc, "200"): {
                "description": "Done.",
                "content": {"application/json": {"schema": _reference(contract, method.output_type, schemas)}},
            },
        }
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)},
    }
    fields = {field.name: field for field in contract.messages[method.input_type].field}
    if variables:
        operation["parameters"] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": contract.comments[f"{method.input_type}.{name}"],
                "schema": _property(contract, fields[name], schemas),
            }
            for name in variables
        ]
    if has_body:
        schema = _reference(contract, method.input_type, schemas)
        is_needed = any(map(_is_required, fields.values()))
        operation["requestBody"] = {"required": is_needed, "content": {"application/json": {"schema": schema}}}
    return operation


def _reference(contract: Contract, name: str, schemas: dict[str, Json]) -> Json:
    short = name.rpartition(".")[2]
    if short not in schemas:
        message = contract.messages[name]
        schemas[short] = {
            "type": "object",
            "description": contract.comments[name],
            "properties": {
                field.json_name: _property(contract, field, schemas)
                | {"description": contract.comments[f"{name}.{field.name}"]}
                for field in message.field
            },
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
    return {"type": "array", "items": kind} if field.label == field.LABEL_REPEATED else kind


def _rules(field: descriptor_pb2.FieldDescriptorProto) -> Json:
    rules = field.options.Extensions[validate_pb2.field].string
    shared = [schema for rule, schema in SHARED_RULES.items() if rules.Extensions[rule]]
    needed = field.options.Extensions[validate_pb2.field].required
    uuid = {"format": "uuid"} if rules.uuid else {}
    return ({"minLength": 1} if needed else {}) | (shared[0] if shared else {}) | uuid


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
