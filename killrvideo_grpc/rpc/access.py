"""Who may call which method, as the contract declares it."""

from collections.abc import Iterable, Mapping
from typing import Any

from killrvideo.user.v1 import access_pb2

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.errors import SetupError

ROLES: Mapping[int, Role | None] = {
    access_pb2.ACCESS_PUBLIC: None,
    access_pb2.ACCESS_VIEWER: Role.VIEWER,
    access_pb2.ACCESS_CREATOR: Role.CREATOR,
    access_pb2.ACCESS_MODERATOR: Role.MODERATOR,
}


# Descriptors are typed as Any, because protobuf's two implementations share no type.
def access_table(services: Iterable[Any], public: Iterable[Any]) -> dict[str, Role | None]:
    """Maps each method's path (`/package.Service/Method`) to the role that it requires, or None if anyone may call it.

    Methods of `services` must declare their access. Methods of `public` (health and reflection, which are defined
    elsewhere) are open to anyone. Raises SetupError.
    """
    methods = [method for service in services for method in service.methods]
    gaps = [method.full_name for method in methods if _declared(method) not in ROLES]
    if gaps:
        raise SetupError(f"The contract declares no access option for: {', '.join(gaps)}")
    table: dict[str, Role | None] = {_path(method): None for service in public for method in service.methods}
    return table | {_path(method): ROLES[_declared(method)] for method in methods}


def _declared(method: Any) -> int:
    access: int = method.GetOptions().Extensions[access_pb2.access]
    return access


def _path(method: Any) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"
