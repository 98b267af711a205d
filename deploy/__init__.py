"""Containers and configuration. A package only for mypy and ruff."""
