"""`killrvideo-grpc accounts`."""

import click


@click.group()
def accounts() -> None:
    """Act on accounts whose owners can't."""
