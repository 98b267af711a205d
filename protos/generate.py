"""Generate the stubs under `generated/`, and `api.binpb`, from the contract.

The contract's imports come from installed packages. protovalidate ships `validate.proto` only as a descriptor.
"""

import shutil
import sys
from pathlib import Path

from google.api import annotations_pb2, field_behavior_pb2, http_pb2
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

PROTOS = Path(__file__).parent.resolve()
GENERATED = PROTOS.parent / "generated"
VALIDATE = "buf/validate/validate.proto"
# Not imported, but needed to decode error details.
ERROR_DETAILS = "google/rpc/error_details.proto"
DEPENDENCIES = (
    descriptor_pb2,
    any_pb2,
    duration_pb2,
    field_mask_pb2,
    timestamp_pb2,
    http_pb2,
    annotations_pb2,
    field_behavior_pb2,
    error_details_pb2,
    status_pb2,
)


def main() -> None:
    """Replace `generated/`: Python modules, their stubs, and the descriptor set `api.binpb`."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir()
    dependencies = GENERATED / "dependencies.binpb"
    dependencies.write_bytes(dependency_set().SerializeToString(deterministic=True))
    contract = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    services = [name for name in contract if "service" in Path(name).stem]
    include = f"--descriptor_set_in={dependencies}"

    compile_protos(f"-I{PROTOS}", include, *python_outputs("python", "mypy"), *contract)
    compile_protos(include, *python_outputs("python", "mypy"), VALIDATE)
    compile_protos(f"-I{PROTOS}", include, *python_outputs("grpc_python", "mypy_grpc"), *services)
    compile_protos(
        f"-I{PROTOS}",
        include,
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={GENERATED / 'api.binpb'}",
        *contract,
        ERROR_DETAILS,
    )
    dependencies.unlink()
    for package in ("killrvideo/user", "killrvideo/envoy", "buf/validate"):
        (GENERATED / package / "py.typed").touch()


def dependency_set() -> descriptor_pb2.FileDescriptorSet:
    """Return the descriptors of the files that the contract imports from other packages."""
    dependencies = descriptor_pb2.FileDescriptorSet()
    for module in DEPENDENCIES:
        module.DESCRIPTOR.CopyToProto(dependencies.file.add())
    dependencies.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    return dependencies


def python_outputs(*plugins: str) -> list[str]:
    """Return the options that set the output directory of these protoc plugins."""
    return [f"--{plugin}_out={GENERATED}" for plugin in plugins]


def compile_protos(*arguments: str) -> None:
    """Run protoc, which prints errors. Exit with status 1 if it fails."""
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit(1)


if __name__ == "__main__":
    main()
