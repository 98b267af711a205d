"""Keeps anyio and httpcore from importing trio, which `make run` doesn't install."""  # noqa: INP001

raise ModuleNotFoundError
