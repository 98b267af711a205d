"""Configuration and containers. This is a package only so that mypy and ruff check is_healthy.py."""
