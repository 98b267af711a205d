"""Moving accounts: from one store to another, and from an existing KillrVideo database."""
