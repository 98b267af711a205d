"""How the service is built from its parts, run and stopped."""
