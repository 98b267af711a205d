"""What runs around the service."""
