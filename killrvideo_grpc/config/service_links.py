"""Variables that Kubernetes sets for its Services, under names of ours."""

import os
import re


def service_links() -> list[str]:
    """Return the ports' variables that are addresses, such as GRPC_PORT for a Service named `grpc`."""
    return sorted(
        name
        for name, value in os.environ.items()
        if name.upper() in {"GRPC_PORT", "HTTP_PORT", "METRICS_PORT"} and re.match(r"(?:tcp|udp|sctp)://", value)
    )
