"""Keeps structlog from importing rich, which `make run` doesn't install."""  # noqa: INP001

raise ModuleNotFoundError
