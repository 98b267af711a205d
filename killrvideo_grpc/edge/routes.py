"""Envoy's routes: gRPC, REST, and the paths that the edge answers itself."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from killrvideo_grpc.edge.contract import (
    LISTS,
    OPENAPI,
    SERVICE,
    SHORT,
    SUCCESS,
    is_read,
    methods,
    rest_paths,
    takes_query,
)
from killrvideo_grpc.errors.problem import PROBLEM_WANTED

Json = dict[str, Any]

# If a worker has died, the call is retried on another one. Writes are retried only if they can't have been processed.
RETRIES = {"num_retries": 3, "retry_back_off": {"base_interval": "0.025s"}, "host_selection_retry_max_attempts": 5}
PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    },
}
NOT_ARRIVED = {"retry_on": "connect-failure,refused-stream,reset-before-request"}
# A worker may also hang. After 3 s, a read is also sent to a second worker, and the first response wins. If only the
# store is slow, the first worker usually still wins.
READ = {"retry_on": f"{NOT_ARRIVED['retry_on']},reset", "per_try_timeout": "3s"}
HEDGE = {"hedge_on_per_try_timeout": True}

# A rate limit for the largest response that anyone can request: Envoy holds a copy of it until the caller has read it.
RATE_LIMIT = {
    "typed_per_filter_config": {
        "envoy.filters.http.local_ratelimit": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "edge",
            "token_bucket": {"max_tokens": 100, "tokens_per_fill": 100, "fill_interval": "1s"},
            "filter_enabled": {"default_value": {"numerator": 100}},
            "filter_enforced": {"default_value": {"numerator": 100}},
        }
    }
}

# The content types that Envoy's filters treat as gRPC and gRPC-Web. Others with the same prefix are not gRPC.
GRPC = r"application/grpc(\+.*)?"
GRPC_WEB = r"application/grpc-web(-text)?(\+proto)?"


def header_matches(name: str, pattern: str) -> Json:
    """Returns Envoy's matcher for headers whose whole value matches a regular expression."""
    return {"name": name, "string_match": {"safe_regex": {"regex": pattern}}}


IS_POST = header_matches(":method", "POST")
IS_GRPC = [IS_POST, header_matches("content-type", f"{GRPC}|{GRPC_WEB}")]


def routes(project_name: str) -> list[Json]:
    """Returns all routes, in the order in which Envoy tries them."""
    return [*_grpc_routes(), *_rest_routes(), *_own_routes(project_name)]


def _grpc_routes() -> Iterator[Json]:
    whole = {"grpc": True, "whole": True}
    for method in methods():
        yield _route({"path": f"/{SERVICE}/{method.name}", "headers": IS_GRPC}, whole, _retries(is_read(method)))
    yield _route({"prefix": "/grpc.health.v1.Health/", "headers": IS_GRPC}, whole)
    # Reflection, which is a streaming RPC, and unknown methods, which the service refuses.
    yield _route({"prefix": "/", "headers": IS_GRPC}, {"grpc": True})


def _rest_routes() -> Iterator[Json]:
    # Literal paths come before those with variables: /users/{user_id} also matches /users/me.
    for path, rpcs in sorted(rest_paths().items(), key=lambda item: ("{" in item[0], item[0])):
        match = {"safe_regex": {"regex": "[^/]+".join(map(re.escape, re.split(r"\{[^}]*\}", path)))}}
        allow = ", ".join(sorted(rpcs))
        full = next((full for end, full in SHORT.items() if path.endswith(end)), None)
        for verb, method in rpcs.items():
            metadata: Json = {
                "allow": allow,
                "success": str(SUCCESS.get(method.name, 200)),
                "query": takes_query(method),
            }
            metadata |= {"list": LISTS[method.name]} if method.name in LISTS else {}
            metadata |= {"rewrite": full} if full else {}
            matched = match | {"headers": [header_matches(":method", verb)]}
            wanted = {"header": {"key": PROBLEM_WANTED, "value": "true"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            yield _route(matched, metadata, _retries(is_read(method))) | {"request_headers_to_add": [wanted]}
        # Other HTTP methods: the CORS filter answers preflight requests, and edge.lua answers the rest with 405.
        yield _route(match, {"allow": allow})


def _own_routes(project_name: str) -> Iterator[Json]:
    openapi = json.dumps(json.loads(OPENAPI.read_text()), separators=(",", ":"))
    welcome = json.dumps({"message": f"Welcome to {project_name}!"})
    yield _route({"path": "/"}, {"allow": "GET, HEAD", "body": welcome})
    yield _route({"path": "/openapi.json"}, {"allow": "GET, HEAD", "body": openapi}) | RATE_LIMIT
    yield _route({"prefix": "/"}, {})


def _retries(is_read: bool) -> Mapping[str, str]:
    return READ if is_read else NOT_ARRIVED


def _route(match: Json, metadata: Json, retries: Mapping[str, str] = NOT_ARRIVED) -> Json:
    """Returns a route to the service. `metadata` tells edge.lua what to do with it.

    edge.lua also answers requests that never reach the service. Envoy's `direct_response` would bypass the CORS filter.
    """
    return {
        "match": match,
        "metadata": {"filter_metadata": {"envoy.filters.http.lua": metadata}},
        "route": {
            "cluster": "user-service",
            # A call ends after its grpc-timeout: 10 s if it has none, and at most 30 s.
            "timeout": "0s",
            "max_stream_duration": {"grpc_timeout_header_max": "30s", "max_stream_duration": "30s"},
            "retry_policy": {**RETRIES, **retries, "retry_host_predicate": [PREVIOUS_HOSTS]},
            "hedge_policy": HEDGE,
        },
    }
