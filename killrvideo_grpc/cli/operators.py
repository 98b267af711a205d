"""What commands that act on one account have in common."""

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from killrvideo_grpc.cli.config import read_settings, store_location
from killrvideo_grpc.cli.existing_store import existing_store
from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import LastModerator, UserNotFound
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.service.moderation import Operators

MAX_LOGIN_NAME = 64  # characters


class Email(click.ParamType[str]):
    """Any printable text: no control characters, and no bytes that the terminal's encoding can't decode."""

    name = "email"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.isprintable():
            self.fail("is not an e-mail address", param, ctx)
        return value


@asynccontextmanager
async def opened_account_store(named_by: str = "e-mail address") -> AsyncIterator[tuple[Settings, AccountStore]]:
    """Open the store of the settings, and explain errors about the account. They call the argument `named_by`."""
    settings = read_settings()
    try:
        async with existing_store(settings) as store:
            yield settings, store
    except UserNotFound:
        raise click.ClickException(f"No account has this {named_by} in {store_location(settings)}.") from None
    except LastModerator:
        text = "This is the last moderator. Assign the role to another account first, or use --force."
        raise click.ClickException(text) from None


@asynccontextmanager
async def opened_operators(named_by: str = "e-mail address") -> AsyncIterator[Operators]:
    """Open the use cases of the command line, with errors explained as by `opened_account_store`."""
    async with opened_account_store(named_by) as (_, store):
        yield Operators(store, operator_actor())


def operator_actor() -> str:
    """Return the operator's name for the audit trail: `cli:` and the login name."""
    try:
        name = getpass.getuser()  # from the environment, which may contain anything
    except (KeyError, OSError):  # the user id has no name, as on some container platforms
        return f"cli:uid {os.getuid()}"
    return "cli:" + "".join(character if character.isprintable() else "?" for character in name[:MAX_LOGIN_NAME])
