"""The REST mapping of the contract, read from its descriptors."""

from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor
from killrvideo.user.v1 import user_service_pb2

SERVICE = "killrvideo.user.v1.UserService"
OPENAPI = Path(user_service_pb2.__file__).with_name("openapi.json")

# The HTTP status of success, where it isn't 200.
SUCCESS_STATUS = {"Register": 201}
# RPCs whose REST response is this field of the message, as an array.
LISTS = {"SearchUsers": "users"}
# Endings of paths, and the endings that they stand for.
SHORTHANDS = {"/assign-moderator": "/roles/moderator:assign", "/revoke-moderator": "/roles/moderator:revoke"}

# What the edge lets caches do with successful responses. All others must not be stored.
CACHE_CONTROL = {"GetJsonWebKeySet": "public, max-age=300"}

# Imports for options that Envoy knows or ignores.
OPTION_IMPORTS = (
    "buf/validate/validate.proto",
    "google/api/annotations.proto",
    "google/api/field_behavior.proto",
    "killrvideo/user/v1/access.proto",
    "killrvideo/user/v1/string_rules.proto",
)


def methods() -> list[MethodDescriptor]:
    """Return the RPCs of the contract."""
    return list(user_service_pb2.DESCRIPTOR.services_by_name["UserService"].methods)


def is_read(method: MethodDescriptor) -> bool:
    """Return whether the RPC has no side effects."""
    options = method.GetOptions()
    return bool(options.idempotency_level == options.NO_SIDE_EFFECTS)


def takes_query(method: MethodDescriptor) -> bool:
    """Return whether a GET has fields that are not in its path."""
    path = method.GetOptions().Extensions[annotations_pb2.http].get
    return bool(path) and any(f"{{{field.name}}}" not in path for field in method.input_type.fields)


def never_strings(method: MethodDescriptor) -> list[str]:
    """Return the proto and JSON names of the body's fields that aren't strings. The transcoder accepts some strings."""
    if not method.GetOptions().Extensions[annotations_pb2.http].body:
        return []
    fields = [field for field in method.input_type.fields if not _is_string(field)]
    return [name for field in fields for name in (field.name, field.json_name)]


def _is_string(field: FieldDescriptor) -> bool:
    if field.type == field.TYPE_STRING:
        return not field.is_repeated
    if field.is_repeated or field.type not in (field.TYPE_BOOL, field.TYPE_INT32):
        raise NotImplementedError(f"edge.lua can't check the type of {field.full_name}.")
    return False


def rest_paths() -> dict[str, dict[str, MethodDescriptor]]:
    """Return the RPC for each HTTP method of each path template: `{template: {"GET": method}}`."""
    paths: dict[str, dict[str, MethodDescriptor]] = {}
    for method in methods():
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            verb = binding.WhichOneof("pattern")
            if verb:
                paths.setdefault(getattr(binding, verb), {})[verb.upper()] = method
    return paths


def descriptor_set() -> bytes:
    """Return the smallest FileDescriptorSet with which Envoy can transcode."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        needed = [dependency for dependency in file.dependencies if dependency.name not in OPTION_IMPORTS]
        for dependency in needed:
            add(dependency)
        copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        copy.dependency[:] = [dependency.name for dependency in needed]
        files.setdefault(file.name, copy)

    add(user_service_pb2.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString(deterministic=True)
