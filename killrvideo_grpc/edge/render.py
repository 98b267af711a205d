"""Render Envoy's configuration from the contract and the error table."""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from textwrap import indent
from typing import Any

from google.rpc import code_pb2

from killrvideo_grpc.domain.errors import InvalidRequest, Overloaded, Violation
from killrvideo_grpc.edge.additions import Additions
from killrvideo_grpc.edge.contract import OPENAPI, SERVICE, descriptor_set
from killrvideo_grpc.edge.docs_page import MAX_FILE_BYTES, page_routes
from killrvideo_grpc.edge.envoy_api import Json, header_option, lua_string, socket_address
from killrvideo_grpc.edge.local_replies import local_reply_mappers
from killrvideo_grpc.edge.routes import CLUSTER, HEALTHZ, routes
from killrvideo_grpc.edge.siblings import siblings
from killrvideo_grpc.errors.grpc_status import to_status
from killrvideo_grpc.errors.problem import PROBLEM_WANTED, edge_problem, problem
from killrvideo_grpc.errors.responses import error_response
from killrvideo_grpc.errors.table import EDGE_ERRORS, RETRY_SECONDS, TABLE

HERE = Path(__file__).parent
# The problems of JSON that doesn't fit a message. edge.lua replaces FIELD with the field's name.
FIELD = "FIELD"
TYPE_ERRORS = {
    "WRONG_TYPE": Violation(FIELD, "has the wrong type"),
    "IN_PATH": Violation(FIELD, "differs from the one in the path"),
    "WRONG_FORM": Violation("", "does not have the form that this call expects"),
}

# Headers of all responses but siblings'.
POLICIES = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}

# Envoy's names for the address of its peer, and for the one that edge.lua takes from x-forwarded-for.
PEER_ADDRESS, FORWARDED_ADDRESS = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "%DYNAMIC_METADATA(edge:client_address)%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What one Envoy's configuration depends on.

    `workers` are hosts and ports, `origins` regular expressions (RE2) for CORS origins, and `admin` is the Unix socket
    of the admin interface. `trusted_hops` counts the proxies in front of Envoy that append to `x-forwarded-for`.
    `siblings` are the host and the port of the services that get what the contract's paths don't match.
    `docs` is the folder of Swagger UI's files, for /docs.
    """

    port: int
    workers: Sequence[tuple[str, int]]
    host: str = "127.0.0.1"
    project_name: str = "KillrVideo"
    origins: Sequence[str] = ()
    admin: Path | None = None
    trusted_hops: int = 0
    siblings: tuple[str, int] | None = None
    docs: Path | None = None


def render(edge: Edge) -> str:
    """Return a self-contained Envoy configuration, in YAML."""
    added = list(_additions(edge))
    template = Template((HERE / "envoy.yaml").read_text())
    return template.substitute(
        admin=json.dumps({"address": {"pipe": {"path": str(edge.admin), "mode": 0o600}}} if edge.admin else None),
        host=json.dumps(edge.host),
        port=edge.port,
        client_address=json.dumps(FORWARDED_ADDRESS if edge.trusted_hops else PEER_ADDRESS),
        lua=indent("\n".join([lua(edge.trusted_hops), *(part.lua for part in added)]), " " * 26).lstrip(),
        optional_upgrade=json.dumps(_not_beginning_with("websocket")),
        problem_wanted=PROBLEM_WANTED,
        descriptors=base64.b64encode(descriptor_set()).decode(),
        service=SERVICE,
        cluster=CLUSTER,
        healthz=json.dumps(HEALTHZ),
        policies=_lines(map(_policy_mutation, POLICIES.items())),
        origins=_lines({"safe_regex": {"regex": origin}} for origin in edge.origins),
        methods=", ".join(["GET, POST, PUT, DELETE, OPTIONS", *(each for part in added for each in part.cors_methods)]),
        workers=_lines({"endpoint": {"address": socket_address(host, port)}} for host, port in edge.workers),
        max_file_bytes=MAX_FILE_BYTES,
        routes=_lines(routes(edge.project_name, [route for part in added for route in part.routes])),
        local_replies=_lines(local_reply_mappers()),
        more_mutations=_items((each for part in added for each in part.request_mutations), depth=24),
        more_filters=_items((each for part in added for each in part.filters), depth=18),
        more_clusters=_items((each for part in added for each in part.clusters), depth=4),
    )


def _additions(edge: Edge) -> Iterator[Additions]:
    """Yield what each option in use adds."""
    if edge.siblings:
        yield siblings(edge.siblings, POLICIES, has_origins=bool(edge.origins))
    if edge.docs:
        yield Additions(routes=list(page_routes(edge.docs)))


def _policy_mutation(policy: tuple[str, str]) -> Json:
    name, value = policy
    # edge.lua sets the cache-control of responses that may be stored.
    is_default = name == "cache-control"
    return {"append": header_option(name, value, "ADD_IF_ABSENT" if is_default else "OVERWRITE_IF_EXISTS_OR_ADD")}


def _items(values: Iterable[Any], depth: int) -> str:
    """Return further items of a YAML list that is indented by `depth`."""
    return "".join(f"\n{' ' * depth}- {json.dumps(value)}" for value in values)


def _not_beginning_with(word: str) -> str:
    """Return a case-insensitive regular expression. RE2 has no negative lookahead."""
    return "(?i)" + "|".join(f"{word[:end]}([^{letter}].*)?" for end, letter in enumerate(word))


def _lines(values: Iterable[Any]) -> str:
    """Return a list as JSON, which is valid YAML, one item a line."""
    items = [json.dumps(value) for value in values]
    return "[" + ",".join(f"\n{' ' * 30}{item}" for item in items) + "]"


def lua(trusted_hops: int) -> str:
    """Return edge.lua, preceded by the constants that it uses."""
    documents = ",\n".join(f'  ["{status}"] = {lua_string(edge_problem(status))}' for status in EDGE_ERRORS)
    type_errors = [
        f"local {name} = {lua_string(problem(error_response(InvalidRequest([violation]))))}"
        for name, violation in TYPE_ERRORS.items()
    ]
    overloaded = error_response(Overloaded())
    status = to_status(overloaded)
    texts = {
        "RETRY_SECONDS": str(RETRY_SECONDS),
        "TYPE_ERROR_STATUS": str(TABLE[InvalidRequest].status),
        "CANCELLED": str(code_pb2.CANCELLED),
        "OVERLOADED": problem(overloaded),
        "OVERLOADED_STATUS": str(overloaded.spec.status),
        "OVERLOADED_CODE": str(status.code),
        "OVERLOADED_MESSAGE": status.message,
        "OVERLOADED_DETAILS": base64.b64encode(status.SerializeToString()).decode().rstrip("="),
        # Not in the route's metadata, which Envoy copies for each request and frees when Lua collects garbage.
        "OPENAPI": json.dumps(json.loads(OPENAPI.read_text()), separators=(",", ":")),
    }
    constants = (
        f"local TRUSTED_HOPS = {trusted_hops}",
        *(f"local {name} = {lua_string(text)}" for name, text in texts.items()),
        f"local PROBLEMS = {{\n{documents},\n}}",
        *type_errors,
    )
    return "\n".join((*constants, (HERE / "edge.lua").read_text()))
