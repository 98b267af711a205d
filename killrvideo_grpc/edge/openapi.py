"""Generate the OpenAPI document: python -m killrvideo_grpc.edge.openapi <generated/api.binpb >openapi.json."""

import json
import re
import sys

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from killrvideo.user.v1 import access_pb2, error_reason_pb2

from killrvideo_grpc.edge.contract import LISTS, SERVICE, SHORTHANDS, SUCCESS_STATUS, rest_paths, takes_query
from killrvideo_grpc.edge.schemas import Contract, Json, is_required, properties, property_of, reference
from killrvideo_grpc.errors.table import EDGE_ERRORS, TABLE

# The error statuses of any call, of calls with a body, and of calls with a token.
ANY_CALL = (400, 408, 413, 429, 431, 500, 503, 504)
WITH_BODY = (415, 422)
WITH_TOKEN = (401, 403, 404)
# HTTP statuses by reason, as RPCs' comments list reasons.
STATUSES = {entry.reason: entry.status for entry in TABLE.values() if entry.reason}
REASON = re.compile(r"\(([A-Z_]+)\)")
NEXT_PAGE = {
    "X-Next-Page-Token": {
        "description": "The next page token; absent on the last page.",
        "schema": {"type": "string"},
    }
}
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The token of a login. On /docs, a login authorizes the calls after it.",
}
# With these, a registration and then a login succeed on the page /docs as they stand.
LOGIN = {"email": "ann@example.org", "password": "correct horse"}
EXAMPLES: dict[str, Json] = {"Register": {**LOGIN, "firstName": "Ann", "lastName": "Lee"}, "Login": LOGIN}
TAGS = ("users", "moderation", "other")  # as in paths; the last is for all others
VARIABLE = re.compile(r"\{(\w+)\}")
RETRY = {"Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}}
CHALLENGE = {"WWW-Authenticate": {"description": "How to authenticate: Bearer.", "schema": {"type": "string"}}}
HEADERS: dict[int, Json] = {401: CHALLENGE} | {entry.status: RETRY for entry in TABLE.values() if entry.retry_seconds}


def document(descriptors: bytes) -> Json:
    """Return the OpenAPI 3.1 document for a serialized FileDescriptorSet with source information."""
    contract, schemas = Contract(descriptors), {"Problem": _problem_schema()}
    paths: dict[str, Json] = {"/": _welcome()}
    for path, rpcs in sorted(rest_paths().items()):
        paths[path] = {verb.lower(): _operation(contract, method, path, schemas) for verb, method in rpcs.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "KillrVideo user service",
            "version": "v1",
            "description": contract.comments[f".{SERVICE}"],
        },
        "tags": [{"name": tag} for tag in TAGS],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {str(status): _problem_response(status) for status in EDGE_ERRORS},
            "securitySchemes": {"bearer": BEARER},
        },
    }


def _operation(contract: Contract, method: MethodDescriptor, path: str, schemas: dict[str, Json]) -> Json:
    rpc, options, variables = method.name, method.GetOptions(), VARIABLE.findall(path)
    shorthand = next((end for end in SHORTHANDS if path.endswith(end)), None)
    is_public = options.Extensions[access_pb2.access] == access_pb2.ACCESS_PUBLIC
    has_body = bool(options.Extensions[annotations_pb2.http].body)
    has_query = takes_query(method)
    summary, _, errors = contract.comments[f".{SERVICE}.{rpc}"].partition("Errors include:")
    statuses = {*ANY_CALL, *(WITH_BODY if has_body else ()), *(() if is_public else WITH_TOKEN)}
    statuses |= {STATUSES[reason] for reason in REASON.findall(errors)}
    statuses |= {422} if variables or has_query else set()
    operation: Json = {
        "operationId": _camel(shorthand) if shorthand else rpc,
        "tags": [_tag(path)],
        "summary": summary.strip(),
        "description": f"Errors include: {errors.strip()}",
        "security": [] if is_public else [{"bearer": []}],
        "responses": {str(SUCCESS_STATUS.get(rpc, 200)): _success(contract, rpc, schemas)}
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)},
    }
    if variables or has_query:
        operation["parameters"] = _parameters(contract, rpc, variables, schemas, has_query=has_query)
    if has_body:
        request = contract.methods[rpc].input_type
        operation["requestBody"] = _request_body(contract, request, variables, schemas, is_shorthand=bool(shorthand))
        if rpc in EXAMPLES:
            operation["requestBody"]["content"]["application/json"]["example"] = EXAMPLES[rpc]
    return operation


def _parameters(
    contract: Contract, rpc: str, variables: list[str], schemas: dict[str, Json], *, has_query: bool
) -> list[Json]:
    request = contract.methods[rpc].input_type
    fields = {field.name: field for field in contract.messages[request].field}
    found = [(name, "path", fields[name]) for name in variables]
    if has_query:
        found += [(field.json_name, "query", field) for field in fields.values() if field.name not in variables]
    return [
        {
            "name": name,
            "in": place,
            "required": place == "path",
            "description": contract.comments[f"{request}.{field.name}"],
            "schema": property_of(contract, field, schemas),
        }
        for name, place, field in found
    ]


def _tag(path: str) -> str:
    return next((tag for tag in TAGS if path.startswith(f"/api/v1/{tag}")), TAGS[-1])


def _camel(end: str) -> str:
    return "".join(word.capitalize() for word in end.strip("/").split("-"))


def _success(contract: Contract, rpc: str, schemas: dict[str, Json]) -> Json:
    message = contract.messages[contract.methods[rpc].output_type]
    if rpc not in LISTS:
        schema = reference(contract, contract.methods[rpc].output_type, schemas)
        return {"description": "Done.", "content": {"application/json": {"schema": schema}}}
    (items,) = (field for field in message.field if field.name == LISTS[rpc])
    schema = property_of(contract, items, schemas)
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}, "headers": NEXT_PAGE}


def _request_body(
    contract: Contract, name: str, variables: list[str], schemas: dict[str, Json], *, is_shorthand: bool
) -> Json:
    """Return the schema of the request fields that are not in the path. Shorthands imply the role."""
    in_path = {*variables, *(["role"] if is_shorthand else [])}
    left = [field for field in contract.messages[name].field if field.name not in in_path]
    if not in_path:
        schema = reference(contract, name, schemas)
    else:
        required = [field.json_name for field in left if is_required(field) and not is_shorthand]
        schema = {"type": "object", "properties": properties(contract, name, left, schemas)}
        schema |= {"required": required} if required else {}
    is_needed = not is_shorthand and any(map(is_required, left))
    return {"required": is_needed, "content": {"application/json": {"schema": schema}}}


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
            "detail": text | {"description": "What went wrong, as a sentence for people."},
            "instance": text | {"description": "The path of the request."},
            "code": text | {"enum": reasons, "description": "The reason, for programs. Absent if none applies."},
            "errors": {"type": "array", "items": violation, "description": "The violated rules, by JSON path."},
        },
        "required": ["type", "title", "status", "detail", "instance"],
    }


def _problem_response(status: int) -> Json:
    response: Json = {
        "description": EDGE_ERRORS[status].title,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return response | ({"headers": HEADERS[status]} if status in HEADERS else {})


def _welcome() -> Json:
    schema = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    answers: Json = {"200": {"description": "Done.", "content": {"application/json": {"schema": schema}}}}
    answers |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in (400, 431)}
    summary = "Returns a welcome message."
    operation: Json = {"operationId": "Welcome", "tags": [_tag("/")], "summary": summary, "security": []}
    return {"get": operation | {"responses": answers}}


def main() -> None:
    """Convert descriptors on standard input to the document on standard output."""
    json.dump(document(sys.stdin.buffer.read()), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
