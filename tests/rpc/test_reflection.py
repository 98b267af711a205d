"""Reflection under both names, v1 and v1alpha."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tests.support.servers import running_server
from tests.support.settings import settings_in

SERVICE = "killrvideo.user.v1.UserService"


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    settings = settings_in(tmp_path_factory.mktemp("reflection"))
    with running_server(settings) as server, grpc.insecure_channel(server.target) as channel:
        yield channel


def files_with(channel: grpc.Channel, version: str, symbol: str) -> list[str]:
    """Request a symbol and return the names of the files in the response; none if the symbol is unknown."""
    method: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )
    (answer,) = method(iter([ServerReflectionRequest(file_containing_symbol=symbol)]), timeout=10)
    if answer.HasField("error_response"):
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    return [FileDescriptorProto.FromString(file).name for file in answer.file_descriptor_response.file_descriptor_proto]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        (SERVICE, "killrvideo/user/v1/user_service.proto"),
        (f"{SERVICE}.GetMe", "killrvideo/user/v1/user_service.proto"),
        ("killrvideo.user.v1.User", "killrvideo/user/v1/user.proto"),
        ("grpc.health.v1.Health.Watch", "grpc_health/v1/health.proto"),
    ],
)
def test_symbols(channel: grpc.Channel, version: str, symbol: str, file: str) -> None:
    assert files_with(channel, version, symbol)[0] == file


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize("symbol", [f"{SERVICE}.Nothing", "nobody.Service.GetMe", "GetMe", "", ".", "x" * 5000])
def test_unknown_symbols(channel: grpc.Channel, version: str, symbol: str) -> None:
    assert files_with(channel, version, symbol) == []


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_only_services_for_callers_are_listed(channel: grpc.Channel, version: str) -> None:
    method: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )
    (answer,) = method(iter([ServerReflectionRequest(list_services="")]), timeout=10)
    reflection = [f"grpc.reflection.{name}.ServerReflection" for name in ("v1", "v1alpha")]
    listed = {service.name for service in answer.list_services_response.service}
    assert listed == {SERVICE, "grpc.health.v1.Health", *reflection}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_itself(channel: grpc.Channel, version: str) -> None:
    symbol = f"grpc.reflection.{version}.ServerReflection.ServerReflectionInfo"
    assert f"/{version}/" in files_with(channel, version, symbol)[0]
