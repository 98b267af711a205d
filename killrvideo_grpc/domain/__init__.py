"""The domain model: accounts, roles, errors and ports. It depends on the standard library only."""
