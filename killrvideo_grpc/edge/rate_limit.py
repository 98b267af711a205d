"""Envoy's limit of the requests to a route."""

from typing import Any


def rate_limit(per_second: int) -> dict[str, Any]:
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
