"""The limit of open files, each of which can be a connection."""

import resource
from contextlib import suppress

import structlog

RESERVED = 256  # for the store, standard streams and libraries
ENVOY_CONNECTIONS = 10_000  # edge/envoy.yaml accepts as many

_log = structlog.get_logger()


def raise_open_files_limit(connections: int) -> None:
    """Raise the soft limit to the hard one. Warn, with what to set, if these connections don't fit then.

    At its limit, Envoy accepts no connection, uses a whole core, and lets callers hang.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + RESERVED
    for limit in (hard, needed):  # macOS refuses its hard limit, which is infinite
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            soft = limit
            break
    if soft != resource.RLIM_INFINITY and soft < needed:
        advice = f"LimitNOFILE={needed} for systemd, --ulimit nofile={needed} for Docker, or ulimit -n {needed}"
        _log.warning("too few open files allowed", limit=soft, needed=needed, advice=advice)
