"""Configuration and containers. This is a package only so that mypy checks is_healthy.py."""
