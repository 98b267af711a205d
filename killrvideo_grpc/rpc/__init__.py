"""The gRPC layer: interceptors, the servicer, and the conversion of domain objects to messages."""
