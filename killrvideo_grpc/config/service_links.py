"""Variables that Kubernetes sets for its Services, under the names of our settings."""

import os
import re


def service_links() -> list[str]:
    """Return the port settings that hold addresses, such as GRPC_PORT for a Service named `grpc`."""
    return sorted(
        name
        for name, value in os.environ.items()
        if name.upper() in {"GRPC_PORT", "HTTP_PORT", "METRICS_PORT"} and re.match(r"(?:tcp|udp|sctp)://", value)
    )
