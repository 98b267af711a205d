"""Configuration and containers. A package only so that mypy and ruff check is_healthy.py."""
