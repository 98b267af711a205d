"""The interceptors that every call passes through."""
