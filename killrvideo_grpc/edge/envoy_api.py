"""Parts of Envoy's API that several modules configure."""

from typing import Any, Literal

Json = dict[str, Any]
AppendAction = Literal["OVERWRITE_IF_EXISTS_OR_ADD", "APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT"]

# Switches a filter off, on one route.
DISABLED = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}


def header_option(name: str, value: str, action: AppendAction = "OVERWRITE_IF_EXISTS_OR_ADD") -> Json:
    """Return a HeaderValueOption: a header to set, and what to do if it exists."""
    return {"header": {"key": name, "value": value}, "append_action": action}


def socket_address(host: str, port: int) -> Json:
    """Return an Address."""
    return {"socket_address": {"address": host, "port_value": port}}


def lua_metadata(values: Json) -> Json:
    """Return a route's metadata, which the Lua filters read."""
    return {"filter_metadata": {"envoy.filters.http.lua": values}}


def lua_string(text: str) -> str:
    """Return a text as a string in Lua. It must not contain `]=]`."""
    return f"[=[{text}]=]"


def rate_limit(per_second: int) -> Json:
    """Return per-route settings for large responses, of which Envoy holds a copy until the caller has read it."""
    return {
        "envoy.filters.http.local_ratelimit": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "edge",
            "token_bucket": {"max_tokens": per_second, "tokens_per_fill": per_second, "fill_interval": "1s"},
            "filter_enabled": {"default_value": {"numerator": 100}},
            "filter_enforced": {"default_value": {"numerator": 100}},
        }
    }
