"""`killrvideo-grpc roles`."""

import asyncio

import click

from killrvideo_grpc.cli.operators import Email, opened_operators
from killrvideo_grpc.domain.account import Account, Role, role_names

ROLE = click.Choice([role.value for role in Role])


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
        async with opened_operators() as operators:
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
        async with opened_operators() as operators:
            _print_roles(await operators.revoke_role(email, Role(role), force=force))

    asyncio.run(work())


@roles.command("list")
@click.argument("email", type=Email())
def list_roles(email: str) -> None:
    """Print the roles of the account with the e-mail address EMAIL, one per line."""

    async def work() -> None:
        async with opened_operators() as operators:
            _print_roles(await operators.find(email))

    asyncio.run(work())


def _print_roles(account: Account) -> None:
    for name in role_names(account.roles):
        click.echo(name)
