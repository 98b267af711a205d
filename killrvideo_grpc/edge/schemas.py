"""JSON Schemas of the contract's messages, with their comments and rules."""

from collections.abc import Iterable, Iterator
from typing import Any

from buf.validate import validate_pb2
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from killrvideo.user.v1 import string_rules_pb2

from killrvideo_grpc.edge.contract import SERVICE

Json = dict[str, Any]

TIMESTAMP = ".google.protobuf.Timestamp"
TIMESTAMP_FORMAT = "RFC 3339 in UTC, with milliseconds unless they are zero."
SCALARS = {
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING: "string",
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL: "boolean",
    descriptor_pb2.FieldDescriptorProto.TYPE_INT32: "integer",
}
# What JSON Schema can express of the shared rules.
SHARED_RULES: dict[Any, Json] = {
    string_rules_pb2.person_name: {"minLength": 1, "pattern": r"\S"},
    string_rules_pb2.email_address: {"minLength": 1, "format": "idn-email"},
    string_rules_pb2.new_password: {"minLength": 8, "maxLength": 72, "pattern": r"\S"},
    string_rules_pb2.role: {"enum": ["viewer", "creator", "moderator"]},
    string_rules_pb2.reason: {"minLength": 1, "pattern": r"\S"},
}


class Contract:
    """The contract with its comments, from generated/api.binpb. Full names begin with a dot, as in descriptors."""

    def __init__(self, descriptors: bytes) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
        self.messages = {f".{file.package}.{message.name}": message for file in files for message in file.message_type}
        self.methods: dict[str, descriptor_pb2.MethodDescriptorProto] = {}
        self.comments: dict[str, str] = {}
        for file in files:
            for service in file.service:
                if f"{file.package}.{service.name}" == SERVICE:
                    self.methods = {method.name: method for method in service.method}
            self.comments |= dict(_comments(file))


def _comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield the full name (`.package.Message.field`) and comment of each message, field, service and method."""
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


def properties(
    contract: Contract, name: str, fields: Iterable[descriptor_pb2.FieldDescriptorProto], schemas: dict[str, Json]
) -> Json:
    """Return the schemas of `fields` of the message with this full name. Add referenced schemas to `schemas`."""
    return {
        field.json_name: property_of(contract, field, schemas) | {"description": _description(contract, name, field)}
        for field in fields
    }


def _description(contract: Contract, name: str, field: descriptor_pb2.FieldDescriptorProto) -> str:
    comment = contract.comments[f"{name}.{field.name}"]
    return f"{comment} {TIMESTAMP_FORMAT}" if field.type_name == TIMESTAMP else comment


def reference(contract: Contract, name: str, schemas: dict[str, Json]) -> Json:
    """Return a reference to the schema of the message with this full name. Add the schema to `schemas`."""
    short = name.rpartition(".")[2]
    if short not in schemas:
        message = contract.messages[name]
        schemas[short] = {
            "type": "object",
            "description": contract.comments[name],
            "properties": properties(contract, name, message.field, schemas),
        }
        is_request = name in {method.input_type for method in contract.methods.values()}
        required = [
            field.json_name for field in message.field if (is_required if is_request else _is_always_present)(field)
        ]
        schemas[short] |= {"required": required} if required else {}
        for field in message.field if is_request else ():
            if field.type == field.TYPE_BOOL:  # null means that the field is absent
                schemas[short]["properties"][field.json_name]["type"] = ["boolean", "null"]
    return {"$ref": f"#/components/schemas/{short}"}


def property_of(contract: Contract, field: descriptor_pb2.FieldDescriptorProto, schemas: dict[str, Json]) -> Json:
    """Return the schema of one field."""
    if field.type_name == TIMESTAMP:
        kind: Json = {"type": "string", "format": "date-time"}
    elif field.type_name:
        kind = reference(contract, field.type_name, schemas)
    else:
        name = SCALARS[field.type]
        # Null means that the field is absent.
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


def is_required(field: descriptor_pb2.FieldDescriptorProto) -> bool:
    """Return whether the field is required in requests."""
    behaviors: Iterable[int] = field.options.Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


def _is_always_present(field: descriptor_pb2.FieldDescriptorProto) -> bool:
    """Return whether every response contains the field: a scalar or a list."""
    return field.label == field.LABEL_REPEATED or not (field.type_name or field.proto3_optional)
