"""KillrVideo's user service over gRPC."""
