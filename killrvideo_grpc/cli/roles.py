"""`killrvideo-grpc roles`."""

import asyncio
import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from killrvideo_grpc.cli.config import read_settings, store_location
from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.errors import LastModerator, UserNotFound
from killrvideo_grpc.service.moderation import Operators

ROLE = click.Choice([role.value for role in Role])


class Email(click.ParamType[str]):
    """Any printable text: no control characters, and no bytes that the terminal's encoding can't decode."""

    name = "email"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.isprintable():
            self.fail("is not an e-mail address", param, ctx)
        return value


@click.group()
def roles() -> None:
    """Show and change the roles of an account.

    Each role includes the ones below it: a moderator may do everything a creator may, and a creator everything a
    viewer may. A change takes effect at the account's next call, without a new login, even while the service runs.
    """


@roles.command("assign")
@click.argument("email", type=Email())
@click.argument("role", type=ROLE)
def assign(email: str, role: str) -> None:
    """Give ROLE to the account with the e-mail address EMAIL, and print its roles.

    ROLE is viewer, creator or moderator. Does nothing if the account has the role.
    """

    async def work() -> None:
        async with _operators() as operators:
            _print_roles(await operators.assign_role(email, Role(role)))

    asyncio.run(work())


@roles.command("revoke")
@click.argument("email", type=Email())
@click.argument("role", type=ROLE)
@click.option("--force", is_flag=True, help="Allow revoking the moderator role of the last moderator.")
def revoke(email: str, role: str, force: bool) -> None:
    """Take ROLE from the account with the e-mail address EMAIL, and print its roles.

    Does nothing if the account lacks the role. Refuses to leave the service without a moderator, unless --force is
    given.
    """

    async def work() -> None:
        async with _operators() as operators:
            _print_roles(await operators.revoke_role(email, Role(role), force=force))

    asyncio.run(work())


@roles.command("list")
@click.argument("email", type=Email())
def list_roles(email: str) -> None:
    """Print the roles of the account with the e-mail address EMAIL, one per line."""

    async def work() -> None:
        async with _operators() as operators:
            _print_roles(await operators.find(email))

    asyncio.run(work())


@asynccontextmanager
async def _operators() -> AsyncIterator[Operators]:
    from killrvideo_grpc.server.bootstrap import open_store

    settings = read_settings()
    if settings.store == "sqlite":
        find_database(settings.sqlite_path)
    store = await open_store(settings)
    try:
        yield Operators(store, login_name())
    except UserNotFound:
        raise click.ClickException(f"No account has this e-mail address in {store_location(settings)}.") from None
    except LastModerator:
        text = "This is the last moderator. Assign the role to another account first, or use --force."
        raise click.ClickException(text) from None
    finally:
        await store.close()


def find_database(path: Path) -> None:
    """Fail if there is no database."""
    try:
        if path.exists():
            return
    except OSError as error:
        text = f"The database at {path} can't be reached: {error.strerror}."
        raise click.ClickException(f"{text} Run this as the user who runs the service.") from None
    text = f"There is no database at {path}."
    raise click.ClickException(f"{text} Run this in the directory where the service runs, or set SQLITE_PATH.")


def login_name() -> str:
    """Return who runs the command, for events."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id has no name, as on some container platforms
        return f"uid {os.getuid()}"


def _print_roles(account: Account) -> None:
    for role in Role:
        if role in account.roles:
            click.echo(role.value)
