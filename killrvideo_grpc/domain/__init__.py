"""What the service is about, in the standard library alone: accounts, roles, errors, and the port of the stores."""
