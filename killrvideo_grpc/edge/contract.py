"""The REST mapping of the contract, read from its descriptors."""

from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from killrvideo.user.v1 import user_service_pb2

SERVICE = "killrvideo.user.v1.UserService"
OPENAPI = Path(user_service_pb2.__file__).with_name("openapi.json")

# A new RPC may need an entry in one of the next three.
# The HTTP status of success, where it isn't 200.
SUCCESS = {"Register": 201}
# RPCs whose REST response is only this field of the message, as an array. The next page token goes into a header.
LISTS = {"SearchUsers": "users"}
# Short endings of paths, and the endings with a role that they stand for.
SHORT = {"/assign-moderator": "/roles/moderator:assign", "/revoke-moderator": "/roles/moderator:revoke"}

# Imports that only the contract's options need. Envoy knows google.api.http anyway, and ignores the other options.
OPTION_IMPORTS = (
    "buf/validate/validate.proto",
    "google/api/annotations.proto",
    "google/api/field_behavior.proto",
    "killrvideo/user/v1/access.proto",
    "killrvideo/user/v1/string_rules.proto",
)


def methods() -> list[MethodDescriptor]:
    """Returns the RPCs of the contract."""
    return list(user_service_pb2.DESCRIPTOR.services_by_name["UserService"].methods)


def is_read(method: MethodDescriptor) -> bool:
    """Returns whether the contract declares that the RPC has no side effects."""
    options = method.GetOptions()
    return bool(options.idempotency_level == options.NO_SIDE_EFFECTS)


def takes_query(method: MethodDescriptor) -> bool:
    """Returns whether REST callers may pass fields in the query: those fields of a GET that are not in its path."""
    path = method.GetOptions().Extensions[annotations_pb2.http].get
    return bool(path) and any(f"{{{field.name}}}" not in path for field in method.input_type.fields)


def rest_paths() -> dict[str, dict[str, MethodDescriptor]]:
    """Returns the RPC for each HTTP method of each path template: `{template: {"GET": method}}`."""
    paths: dict[str, dict[str, MethodDescriptor]] = {}
    for method in methods():
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            verb = binding.WhichOneof("pattern")
            if verb:
                paths.setdefault(getattr(binding, verb), {})[verb.upper()] = method
    return paths


def descriptor_set() -> bytes:
    """Returns the smallest FileDescriptorSet from which Envoy can read the messages and their paths."""
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
