"""Keeps structlog from importing rich, which only development tools need and `make run` doesn't install."""  # noqa: INP001

raise ImportError
