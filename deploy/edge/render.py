"""Renders Envoy's configuration from the contract: `python -m deploy.edge.render --help`."""

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from grpc import StatusCode

HERE = Path(__file__).parent.resolve()
GENERATED = HERE.parents[1] / "generated"
DESCRIPTORS = GENERATED / "api.binpb"
SERVICE = "killrvideo.user.v1.UserService"
# What browsers of people at work on KillrVideo come from. Elsewhere nobody is let in unless named.
DEVELOPMENT_ORIGINS = (r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?",)

# What a new RPC may need a line of: statuses that are not 200 when all went well; answers of which REST gets only the
# list, and the token of the next page in a header; and how the ends of paths are rewritten that are short for others.
SUCCESS = {"Register": "201"}
LISTS = {"SearchUsers": "users"}
SHORT = {"/assign-moderator": "/roles/moderator:assign", "/revoke-moderator": "/roles/moderator:revoke"}

# A worker may have died, which any other can answer for. A write is sent again only if it can't have arrived.
RETRIES = {"num_retries": 3, "retry_back_off": {"base_interval": "0.025s"}, "host_selection_retry_max_attempts": 5}
PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}
NOT_ARRIVED = {"retry_on": "connect-failure,refused-stream,reset-before-request"}
# A worker may also be frozen. After so long a read asks another one too, and takes the answer that comes first: it may
# be the store that is slow, and then the first try is the one that is nearly done.
READ = {"retry_on": f"{NOT_ARRIVED['retry_on']},reset", "per_try_timeout": "3s"}
HEDGE = {"hedge_on_per_try_timeout": True}

# What Envoy's filters take for gRPC and gRPC-Web. What only begins like it reaches no gRPC route.
GRPC = r"application/grpc(\+.*)?"
GRPC_WEB = r"application/grpc-web(-text)?(\+proto)?"


def _header(name: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"safe_regex": {"regex": pattern}}}


IS_POST = _header(":method", "POST")
IS_GRPC = [IS_POST, _header("content-type", f"{GRPC}|{GRPC_WEB}")]

# What Envoy itself answers, by status, in sentences for people. Its own texts may quote the client.
PROBLEMS = {
    400: ("Bad Request", "The request is not one that this call takes: check its JSON, its path and its query."),
    401: ("Unauthorized", "Not authenticated"),
    403: ("Forbidden", "This is not allowed."),
    404: ("Not Found", "There is nothing at this path."),
    405: ("Method Not Allowed", "This path does not take this method. The Allow header has those that it takes."),
    408: ("Request Timeout", "The request did not arrive in time."),
    411: ("Length Required", "The request needs a length."),
    409: ("Conflict", "The request does not fit what is there."),
    413: ("Content Too Large", "The body is larger than 64 KiB."),
    415: ("Unsupported Media Type", "The body must be JSON, not compressed, with the content type application/json."),
    422: ("Unprocessable Content", "The request is invalid."),
    426: ("Upgrade Required", "This protocol is not spoken here."),
    429: ("Too Many Requests", "The service is overloaded. Try again in a moment."),
    431: ("Request Header Fields Too Large", "The headers are larger than 16 KiB, or more than 100."),
    500: ("Internal Server Error", "An unexpected internal server error occurred."),
    501: ("Not Implemented", "This is not implemented."),
    502: ("Bad Gateway", "The service gave no answer that makes sense."),
    503: ("Service Unavailable", "The service is unavailable. Try again in a moment."),
    504: ("Gateway Timeout", "This took too long. Try again in a moment."),
}

# What Envoy itself answers to gRPC, by status: left alone it would choose UNKNOWN and INTERNAL for most.
GRPC_ANSWERS = {
    400: (StatusCode.INVALID_ARGUMENT, "The request is not one that this call takes."),
    408: (StatusCode.DEADLINE_EXCEEDED, "The request did not arrive in time."),
    413: (StatusCode.RESOURCE_EXHAUSTED, "The message is larger than 64 KiB."),
    429: (StatusCode.RESOURCE_EXHAUSTED, PROBLEMS[429][1]),
    431: (StatusCode.RESOURCE_EXHAUSTED, "The metadata are larger than 63 KiB."),
    500: (StatusCode.INTERNAL, PROBLEMS[500][1]),
    501: (StatusCode.UNIMPLEMENTED, "This compression is not known. Those that are: gzip, deflate."),
    502: (StatusCode.UNAVAILABLE, PROBLEMS[502][1]),
    503: (StatusCode.UNAVAILABLE, PROBLEMS[503][1]),
    504: (StatusCode.DEADLINE_EXCEEDED, PROBLEMS[504][1]),
}


@dataclass(frozen=True, slots=True)
class Edge:
    """What an edge is made for. `workers` are host and port of each; `origins` are regular expressions (RE2).

    `admin` is a socket (AF_UNIX) for Envoy's admin interface, which only Envoy's own user can reach.
    """

    port: int
    workers: Sequence[tuple[str, int]]
    host: str = "127.0.0.1"
    project_name: str = "KillrVideo"
    origins: Sequence[str] = ()
    admin: Path | None = None


def render(edge: Edge) -> str:
    """Returns Envoy's configuration."""
    values = {
        "admin": {"address": {"pipe": {"path": str(edge.admin), "mode": 0o600}}} if edge.admin else None,
        "host": edge.host,
        "port": edge.port,
        "lua": f"{_lua_problems()}\n{(HERE / 'edge.lua').read_text()}",
        "descriptors": str(DESCRIPTORS),
        "services": [SERVICE],
        "origins": [{"safe_regex": {"regex": origin}} for origin in edge.origins],
        "workers": [{"endpoint": {"address": _socket(host, port)}} for host, port in edge.workers],
        "routes": [*_grpc_routes(), *_rest_routes(), *_other_routes(edge)],
        "local_replies": _local_replies(),
    }
    template = Template((HERE / "envoy.yaml").read_text())
    return template.substitute({name: json.dumps(value) for name, value in values.items()})


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def methods() -> list[descriptor_pb2.MethodDescriptorProto]:
    """Returns the RPCs of the contract."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    return [method for file in files for service in file.service for method in service.method]


def takes_query(rpc: str) -> bool:
    """Says whether an RPC has fields that REST callers give in the query: those of a GET that are not in the path."""
    (method,) = (method for method in methods() if method.name == rpc)
    path = method.options.Extensions[annotations_pb2.http].get
    return bool(path) and any(f"{{{field.name}}}" not in path for field in _message(method.input_type).field)


def _message(name: str) -> descriptor_pb2.DescriptorProto:
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    return next(message for file in files for message in file.message_type if f".{file.package}.{message.name}" == name)


def rest_paths() -> dict[str, dict[str, str]]:
    """Returns the contract's REST side: for each path template, the RPC that each HTTP method calls."""
    paths: dict[str, dict[str, str]] = {}
    for method in methods():
        rule = method.options.Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            verb = binding.WhichOneof("pattern")
            if verb:
                paths.setdefault(getattr(binding, verb), {})[verb.upper()] = method.name
    return paths


def _retries(rpc: str) -> Mapping[str, str]:
    reads = [method.name for method in methods() if method.options.idempotency_level == method.options.NO_SIDE_EFFECTS]
    return READ if rpc in reads else NOT_ARRIVED


def _rest_routes() -> Iterator[dict[str, Any]]:
    # A literal before a variable, or /users/{user_id} would take /users/me.
    for path, rpcs in sorted(rest_paths().items(), key=lambda item: ("{" in item[0], item[0])):
        pattern = "[^/]+".join(re.escape(part) for part in re.split(r"\{[^}]*\}", path))
        # One route a method, as their answers differ; the last takes the methods that the path does not have, for the
        # filters to answer: preflight with CORS, all others with 405.
        allow = ", ".join(sorted(rpcs))
        for verb, rpc in rpcs.items():
            metadata = {"allow": allow, "success": SUCCESS.get(rpc, "200"), "query": takes_query(rpc)}
            metadata |= {"list": LISTS[rpc]} if rpc in LISTS else {}
            full = next((full for end, full in SHORT.items() if path.endswith(end)), None)
            metadata |= {"rewrite": full} if full else {}
            match = {"safe_regex": {"regex": pattern}, "headers": [_header(":method", verb)]}
            yield _route(match, metadata, _retries(rpc))
        yield _route({"safe_regex": {"regex": pattern}}, {"allow": allow})


def _grpc_routes() -> Iterator[dict[str, Any]]:
    for method in methods():
        match = {"path": f"/{SERVICE}/{method.name}", "headers": IS_GRPC}
        yield _route(match, {"grpc": True, "whole": True}, _retries(method.name))
    yield _route({"prefix": "/grpc.health.v1.Health/", "headers": IS_GRPC}, {"grpc": True, "whole": True})
    # Reflection, which is a talk, and what the service does not know, for it to say so.
    yield _route({"prefix": "/", "headers": IS_GRPC}, {"grpc": True})


def _route(match: dict[str, Any], metadata: dict[str, Any], retries: Mapping[str, str] = NOT_ARRIVED) -> dict[str, Any]:
    """Returns a route to the service. The metadata is edge.lua's, which answers by itself what is not for the service.

    No route is a `direct_response`, for CORS has no effect on those.
    """
    return {
        "match": match,
        "metadata": {"filter_metadata": {"envoy.filters.http.lua": metadata}},
        "route": {
            "cluster": "user-service",
            # Ends with the caller's patience: grpc-timeout, 10 s when there is none, 30 s at most.
            "timeout": "0s",
            "max_stream_duration": {"grpc_timeout_header_max": "30s", "max_stream_duration": "30s"},
            "retry_policy": {**RETRIES, **retries, "retry_host_predicate": [PREVIOUS_HOSTS]},
            "hedge_policy": HEDGE,
        },
    }


def _other_routes(edge: Edge) -> Iterator[dict[str, Any]]:
    welcome = json.dumps({"message": f"Welcome to {edge.project_name}!"})
    for path, body in {"/": welcome, "/openapi.json": _openapi()}.items():
        yield _route({"path": path}, {"allow": "GET, HEAD", "body": body})
    yield _route({"prefix": "/"}, {})


def _openapi() -> str:
    # Without its indentation, for Envoy holds a copy for each caller that does not read it.
    return json.dumps(json.loads((GENERATED / "openapi.json").read_text()), separators=(",", ":"))


def _lua_problems() -> str:
    entries = ", ".join(
        f'["{status}"] = {{ title = [[{json.dumps(title)}]], detail = [[{json.dumps(detail)}]] }}'
        for status, (title, detail) in PROBLEMS.items()
    )
    return f"local PROBLEMS = {{ {entries} }}"


def _local_replies() -> dict[str, Any]:
    grpc = _header("content-type", GRPC)
    mappers = [_grpc_reply(status) for status in GRPC_ANSWERS]
    is_rest = {"header_filter": {"header": grpc | {"invert_match": True, "treat_missing_header_as_empty": True}}}
    # What is wrong with the first bytes of a request leaves no path to name. The empty reference means the request.
    has_path = {"header_filter": {"header": {"name": ":path", "present_match": True}}}
    mappers += [
        {
            "filter": {"and_filter": {"filters": [is_rest, _status_is(status), *more]}},
            "body_format_override": _problem(status, instance),
        }
        for status in PROBLEMS
        for more, instance in (([has_path], "%PATH(NQ)%"), ([], ""))
    ]
    # For REST that the transcoder has made gRPC: Envoy's own text tells of its inside. A 400 is the transcoder's, whose
    # words edge.lua reads.
    mappers += [
        {"filter": _status_is(status), "body_format_override": {"text_format_source": {"inline_string": detail}}}
        for status, (_, detail) in PROBLEMS.items()
        if status != 400
    ]
    return {"mappers": mappers}


def _grpc_reply(status: int) -> dict[str, Any]:
    code, message = GRPC_ANSWERS[status]
    is_grpc = {"header_filter": {"header": _header("content-type", GRPC)}}
    is_web = [{"header_filter": {"header": header}} for header in (IS_POST, _header("content-type", GRPC_WEB))]
    # The transcoder makes REST look like gRPC; edge.lua has noted the path of what it knows as REST.
    path = {"filter": "edge", "path": [{"key": "path"}], "value": {"null_match": {}}}
    was_grpc = {"metadata_filter": {"matcher": path, "match_if_key_not_found": True}}
    is_any = {"or_filter": {"filters": [is_grpc, {"and_filter": {"filters": is_web}}]}}
    headers = {"grpc-status": str(code.value[0]), "grpc-message": message}
    return {
        "filter": {"and_filter": {"filters": [is_any, was_grpc, _status_is(status)]}},
        # Envoy knows gRPC, but not gRPC-Web, and would answer that with the HTTP status and the text.
        "status_code": 200,
        "headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
        "body_format_override": {"text_format_source": {"inline_string": ""}},
    }


def _status_is(status: int) -> dict[str, Any]:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": "edge.status"}}
    return {"status_code_filter": {"comparison": comparison}}


def _problem(status: int, instance: str) -> dict[str, Any]:
    title, detail = PROBLEMS[status]
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": instance}
    return {"json_format": problem, "content_type": "application/problem+json"}


def main() -> None:
    """Prints the configuration for a number of workers on ports in a row."""
    parser = argparse.ArgumentParser(description="Print Envoy's configuration for workers on ports in a row.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on (default: %(default)s)")
    parser.add_argument("--service-host", default="127.0.0.1", help="address of the workers (default: %(default)s)")
    parser.add_argument("--service-port", type=int, default=50051, help="port of the first one (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="how many there are (default: %(default)s)")
    parser.add_argument("--project-name", default="KillrVideo", help="who welcomes (default: %(default)s)")
    parser.add_argument("--origin", action="append", default=[], help="regular expression of a web origin; repeatable")
    parser.add_argument("--admin", type=Path, metavar="SOCKET", help="where to have Envoy's admin interface")
    given = parser.parse_args()
    workers = [(given.service_host, given.service_port + worker) for worker in range(given.workers)]
    print(render(Edge(given.port, workers, given.host, given.project_name, given.origin, given.admin)))


if __name__ == "__main__":
    main()
