"""Envoy's own replies: problem documents for REST, gRPC statuses for gRPC."""

from google.rpc import code_pb2

from killrvideo_grpc.edge.envoy_api import Json, header_option
from killrvideo_grpc.edge.routes import GRPC, GRPC_WEB, IS_POST, header_matches
from killrvideo_grpc.errors.problem import edge_members
from killrvideo_grpc.errors.table import EDGE_ERRORS


def local_reply_mappers() -> list[Json]:
    """Return the mappers of Envoy's `local_reply_config`. The first one that matches counts."""
    is_rest = header_matches("content-type", GRPC) | {"invert_match": True, "treat_missing_header_as_empty": True}
    # A request that fails in its first bytes has no path: `instance` is empty.
    has_path = _header({"name": ":path", "present_match": True})
    problems = [
        {
            "filter": _all(_header(is_rest), _status_is(status), *more),
            "body_format_override": _problem(status, instance),
        }
        for status in EDGE_ERRORS
        for more, instance in (([has_path], "%PATH(NQ)%"), ([], ""))
    ]
    return [*map(_grpc_status, EDGE_ERRORS), *problems]


def _grpc_status(status: int) -> Json:
    """Return the mapper for gRPC calls. Envoy alone would answer UNKNOWN or INTERNAL to most."""
    error = EDGE_ERRORS[status]
    is_grpc = _header(header_matches("content-type", GRPC))
    is_web = _all(_header(IS_POST), _header(header_matches("content-type", GRPC_WEB)))
    # REST calls look like gRPC calls after the transcoder. Only they have the path that edge.lua records.
    path = {"filter": "edge", "path": [{"key": "path"}], "value": {"null_match": {}}}
    was_grpc = {"metadata_filter": {"matcher": path, "match_if_key_not_found": True}}
    headers = {
        "grpc-status": str(code_pb2.Code.Value(error.code)),
        "grpc-message": error.grpc_message or error.detail,
    }
    return {
        "filter": _all({"or_filter": {"filters": [is_grpc, is_web]}}, was_grpc, _status_is(status)),
        # gRPC-Web would get the HTTP status and a text.
        "status_code": 200,
        "headers_to_add": [header_option(key, value) for key, value in headers.items()],
        "body_format_override": {"text_format_source": {"inline_string": ""}},
    }


def _problem(status: int, instance: str) -> Json:
    return {
        "json_format": edge_members(status) | {"instance": instance},
        "content_type": "application/problem+json",
    }


def _all(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}


def _header(matcher: Json) -> Json:
    return {"header_filter": {"header": matcher}}


def _status_is(status: int) -> Json:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": "edge.status"}}
    return {"status_code_filter": {"comparison": comparison}}
