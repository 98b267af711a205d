"""Envoy's routes: gRPC, REST, and the paths that the edge answers itself."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from killrvideo_grpc.edge.contract import (
    CACHE_CONTROL,
    LISTS,
    SERVICE,
    SHORTHANDS,
    SUCCESS_STATUS,
    is_read,
    methods,
    never_strings,
    rest_paths,
    takes_query,
)
from killrvideo_grpc.edge.envoy_api import Json, header_option, lua_metadata, rate_limit
from killrvideo_grpc.errors.problem import PROBLEM_WANTED

CLUSTER = "user-service"  # the workers
HEALTHZ = "/healthz"  # answered by Envoy's health check filter

# Retry on another worker. Retry writes only if they can't have been processed.
RETRIES = {"num_retries": 3, "retry_back_off": {"base_interval": "0.025s"}, "host_selection_retry_max_attempts": 5}
PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}
WRITE = {"retry_on": "connect-failure,refused-stream,reset-before-request"}
# After 3 s, send a read to a second worker too; the first response wins.
READ = {"retry_on": f"{WRITE['retry_on']},reset", "per_try_timeout": "3s"}
HEDGE = {"hedge_on_per_try_timeout": True}

# The content types that Envoy's filters treat as gRPC and gRPC-Web.
GRPC = r"application/grpc(\+.*)?"
GRPC_WEB = r"application/grpc-web(-text)?(\+proto)?"


def header_matches(name: str, pattern: str) -> Json:
    """Return Envoy's matcher for headers whose whole value matches a regular expression."""
    return {"name": name, "string_match": {"safe_regex": {"regex": pattern}}}


IS_POST = header_matches(":method", "POST")
IS_GRPC = [IS_POST, header_matches("content-type", f"{GRPC}|{GRPC_WEB}")]


def routes(project_name: str, added: Iterable[Json] = ()) -> list[Json]:
    """Return all routes, in the order in which Envoy tries them: those in `added` before the edge's own paths."""
    return [*_grpc_routes(), *_rest_routes(), *added, *_fixed_routes(project_name)]


def _grpc_routes() -> Iterator[Json]:
    unary = {"grpc": True, "buffer_request": True}
    for method in methods():
        yield _route({"path": f"/{SERVICE}/{method.name}", "headers": IS_GRPC}, unary, _retries(is_read(method)))
    yield _route({"prefix": "/grpc.health.v1.Health/", "headers": IS_GRPC}, unary)
    # Callers must not reach the edge's check: it tells whose token they hold.
    yield _route({"prefix": "/envoy.", "headers": IS_GRPC}, {"grpc": True, "refuse": True})
    # Reflection, which streams, and unknown methods, which the service rejects.
    yield _route({"prefix": "/", "headers": IS_GRPC}, {"grpc": True})


def _rest_routes() -> Iterator[Json]:
    # Literal paths first: /users/{user_id} also matches /users/me.
    for path, rpcs in sorted(rest_paths().items(), key=lambda item: ("{" in item[0], item[0])):
        match = {"safe_regex": {"regex": _template_pattern(path)}}
        allow = ", ".join(sorted(rpcs))
        full = next((full for end, full in SHORTHANDS.items() if path.endswith(end)), None)
        for verb, method in rpcs.items():
            metadata: Json = {
                "allow": allow,
                "success": str(SUCCESS_STATUS.get(method.name, 200)),
                "query": takes_query(method),
            }
            metadata |= {"list": LISTS[method.name]} if method.name in LISTS else {}
            metadata |= {"cache": CACHE_CONTROL[method.name]} if method.name in CACHE_CONTROL else {}
            metadata |= {"never_strings": dict.fromkeys(names, True)} if (names := never_strings(method)) else {}
            metadata |= {"rewrite": full} if full else {}
            matched = match | {"headers": [header_matches(":method", verb)]}
            wanted = {"request_headers_to_add": [header_option(PROBLEM_WANTED, "true")]}
            yield _route(matched, metadata, _retries(is_read(method))) | wanted
        # Other HTTP methods: CORS answers preflight requests, and edge.lua the rest with 405.
        yield _route(match, {"allow": allow})


def _template_pattern(template: str) -> str:
    return "[^/]+".join(map(re.escape, re.split(r"\{[^}]*\}", template)))


def reserved_route() -> Json:
    """Return a route that answers 404 to near misses of paths, so that no mistyped login reaches a sibling.

    These are paths in other letter case, and below templates that end in a literal.
    """
    reserved = (
        _template_pattern(template) + ("" if template.endswith("}") else "(/.*)?") for template in sorted(rest_paths())
    )
    return _route({"safe_regex": {"regex": f"(?i:{'|'.join(reserved)})"}}, {})


def _fixed_routes(project_name: str) -> Iterator[Json]:
    welcome = json.dumps({"message": f"Welcome to {project_name}!"})
    yield _route({"path": "/"}, {"allow": "GET, HEAD", "body": welcome})
    yield _route({"path": HEALTHZ}, {"allow": "GET, HEAD"})
    yield _route({"path": "/openapi.json"}, {"allow": "GET, HEAD", "openapi": True}) | {
        "typed_per_filter_config": rate_limit(100)
    }
    yield _route({"prefix": "/"}, {})


def _retries(is_read: bool) -> Mapping[str, str]:
    return READ if is_read else WRITE


def _route(match: Json, metadata: Json, retries: Mapping[str, str] = WRITE) -> Json:
    """Return a route to the service. `metadata` tells edge.lua what to do with it."""
    return {
        "match": match,
        "metadata": lua_metadata(metadata),
        "route": {
            "cluster": CLUSTER,
            # A call ends after its grpc-timeout, at most 30 s.
            "timeout": "0s",
            "max_stream_duration": {"grpc_timeout_header_max": "30s", "max_stream_duration": "30s"},
            "retry_policy": {**RETRIES, **retries, "retry_host_predicate": [PREVIOUS_HOSTS]},
            "hedge_policy": HEDGE,
        },
    }
