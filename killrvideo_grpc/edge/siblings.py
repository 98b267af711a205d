"""What SIBLINGS_URL and `edge config --siblings` add: routes to siblings, and the check of who makes a request."""

import json
from collections.abc import Mapping
from pathlib import Path

from killrvideo_grpc.edge.additions import Additions
from killrvideo_grpc.edge.envoy_api import DISABLED, Json, header_option, lua_metadata, lua_string, socket_address
from killrvideo_grpc.edge.routes import CLUSTER, PREVIOUS_HOSTS, reserved_route
from killrvideo_grpc.errors.problem import PROBLEM, PROBLEM_STATUS, edge_problem
from killrvideo_grpc.service.identity_headers import IDENTITY_HEADERS

LUA = Path(__file__).with_name("siblings.lua")
SIBLINGS = "siblings"  # the name of the cluster
EXT_AUTHZ = "envoy.filters.http.ext_authz"
TYPES = "type.googleapis.com/envoy.extensions"
MAX_BODY_BYTES = 1 << 20
TOO_LARGE = "The body is larger than 1 MiB, or than 64 KiB and without a content-length."

# The edge's own filters that would change a sibling's requests and responses.
DISABLED_FILTERS = ("policies", "envoy.filters.http.grpc_web", "envoy.filters.http.grpc_json_transcoder")
# x-forwarded-proto, as a proxy in front of Envoy wrote it.
OUTER_SCHEME = "x-outer-scheme"
# Marks responses that come from a sibling. Those without it are the edge's own.
FROM_SIBLING = "x-from-sibling"
# Response headers that only the edge may set, and those that name the sibling's software.
REMOVED = (
    *("access-control-allow-origin", "access-control-allow-credentials", "access-control-allow-methods"),
    *("access-control-allow-headers", "access-control-expose-headers", "access-control-max-age"),
    *("access-control-allow-private-network", "server", "x-powered-by", PROBLEM, PROBLEM_STATUS),
)


def siblings(address: tuple[str, int], policies: Mapping[str, str], *, has_origins: bool) -> Additions:
    """Return what sends the paths that the contract doesn't have to the siblings at `address`.

    The edge's own responses on these paths get the headers in `policies`.
    """
    return Additions(
        routes=_routes(has_origins=has_origins),
        request_mutations=[
            *({"remove": name} for name in IDENTITY_HEADERS),
            {"append": header_option(OUTER_SCHEME, "%REQ(x-forwarded-proto)%")},
        ],
        filters=[_check()],
        clusters=[_cluster(*address)],
        cors_methods=["PATCH"],
        lua=_lua(policies),
    )


def _routes(*, has_origins: bool) -> list[Json]:
    """Return the routes of what no path of the contract matches: with a token, which is checked, and without."""
    under_api = {"path_separated_prefix": "/api"}
    has_token = under_api | {"headers": [{"name": "authorization", "present_match": True}]}
    check = {EXT_AUTHZ: {"@type": f"{TYPES}.filters.http.ext_authz.v3.ExtAuthzPerRoute", "check_settings": {}}}
    return [
        reserved_route(),
        _route_to_siblings(has_token, check, has_origins),
        _route_to_siblings(under_api, {}, has_origins),
    ]


def _route_to_siblings(match: Json, filters: Json, has_origins: bool) -> Json:
    # The edge's CORS headers depend on the origin.
    vary = header_option("vary", "origin", "APPEND_IF_EXISTS_OR_ADD")
    return {
        "match": match,
        "metadata": lua_metadata({"sibling": True}),
        "route": {
            "cluster": SIBLINGS,
            "timeout": "0s",  # for streams; stream_idle_timeout ends those that stall
            "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 1},
        },
        "response_headers_to_add": [vary] if has_origins else [],
        "typed_per_filter_config": dict.fromkeys(DISABLED_FILTERS, DISABLED) | filters,
    }


def _check() -> Json:
    """Return the filter that checks who makes a request, on the routes that enable it."""
    config = {
        "@type": f"{TYPES}.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {
            "envoy_grpc": {"cluster_name": CLUSTER},
            "timeout": "2s",
            "initial_metadata": [{"key": "x-request-id", "value": "%DYNAMIC_METADATA(edge:request_id)%"}],
            # Envoy ignores a retry policy inside envoy_grpc. max_interval also limits each try.
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset,unavailable",
                "num_retries": 3,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": "1s"},
                "retry_host_predicate": [PREVIOUS_HOSTS],
                "host_selection_retry_max_attempts": 5,
            },
        },
        "allowed_headers": {"patterns": [{"exact": "authorization"}]},
        "failure_mode_allow": False,
        "status_on_error": {"code": "ServiceUnavailable"},
    }
    return {"name": EXT_AUTHZ, "disabled": True, "typed_config": config}


def _cluster(host: str, port: int) -> Json:
    mutations = {
        "response_mutations": [*({"remove": name} for name in REMOVED), {"append": header_option(FROM_SIBLING, "true")}]
    }
    options = {
        "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {}},
        # Below the 5 s after which uvicorn and Node close idle connections.
        "common_http_protocol_options": {"idle_timeout": "4s"},
        "http_filters": [
            {
                "name": "responses",
                "typed_config": {
                    "@type": f"{TYPES}.filters.http.header_mutation.v3.HeaderMutation",
                    "mutations": mutations,
                },
            },
            {
                "name": "envoy.filters.http.upstream_codec",
                "typed_config": {"@type": f"{TYPES}.filters.http.upstream_codec.v3.UpstreamCodec"},
            },
        ],
    }
    return {
        "name": SIBLINGS,
        # Tries all addresses of a name: localhost is two, of which servers often use one.
        "type": "LOGICAL_DNS",
        "dns_lookup_family": "ALL",
        "connect_timeout": "1s",
        # What Envoy holds of a response that its caller doesn't read.
        "per_connection_buffer_limit_bytes": 65536,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": SIBLINGS,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(host, port)}}]}],
        },
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000, "max_retries": 1000}
            ]
        },
    }


def _lua(policies: Mapping[str, str]) -> str:
    """Return siblings.lua, preceded by the constants that it uses."""
    headers = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in policies.items())
    return "\n".join(
        (
            f"local FROM_SIBLING = {json.dumps(FROM_SIBLING)}",
            f"local OUTER_SCHEME = {json.dumps(OUTER_SCHEME)}",
            f"local POLICIES = {{ {headers} }}",
            f"local MAX_BODY_BYTES = {MAX_BODY_BYTES}",
            f"local TOO_LARGE = {lua_string(edge_problem(413, TOO_LARGE))}",
            LUA.read_text(),
        )
    )
