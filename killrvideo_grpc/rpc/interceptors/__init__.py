"""The interceptors of every call."""
