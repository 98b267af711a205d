"""The domain model and its ports, with no dependency but the standard library."""
