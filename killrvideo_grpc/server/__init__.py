"""Builds the service from its parts, runs it and stops it."""
