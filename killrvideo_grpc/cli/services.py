"""`killrvideo-grpc services`."""

import asyncio

import click

from killrvideo_grpc.cli.config import read_settings
from killrvideo_grpc.cli.errors import require_output
from killrvideo_grpc.cli.existing_store import existing_store
from killrvideo_grpc.domain.account import now
from killrvideo_grpc.domain.services import (
    Grant,
    ServiceChangeRejected,
    Services,
    ServicesChange,
    ServiceToken,
    add_service,
    drop_old_token,
    remove_service,
    rotate_service,
)
from killrvideo_grpc.security.service_tokens import NAME, new_service_token, service_digest

GRANT = click.Choice([grant.value for grant in Grant])


def _check_name(_context: click.Context, _argument: click.Parameter, name: str) -> str:
    if not NAME.fullmatch(name):
        raise click.BadParameter("must have 1 to 31 characters: a-z first, then a-z, 0-9 and hyphens")
    return name


with_name = click.argument("name", callback=_check_name)


@click.group()
def services() -> None:
    """Manage services: callers without an account.

    A service sends its token like any other: `authorization: Bearer kvs_…`. The store keeps only the token's SHA-256,
    so a token is printed once.
    """


@services.command("add")
@with_name
@click.option("--grant", "grants", type=GRANT, multiple=True, required=True, help="What it may do; repeatable.")
def add(name: str, grants: tuple[str, ...]) -> None:
    """Add the service NAME, and print its token.

    \b
    read_profiles    BatchGetUsers
    check_tokens     CheckTokens
    reset_passwords  CreatePasswordReset: power over every account except moderators'

    The token works at once, also while the service runs.
    """  # noqa: D301 # \\b tells click not to rewrap the lines that follow
    require_output()
    token, stored = _new_token(name)
    _change(add_service(name, [Grant(grant) for grant in grants], stored))
    click.echo(token)


@services.command("rotate")
@with_name
@click.option("--drop-old", is_flag=True, help="End the older token instead.")
def rotate(name: str, drop_old: bool) -> None:
    """Give the service NAME a second token, and print it.

    Once the service uses it, end the older one with --drop-old.
    """
    if drop_old:
        service = _read().get(name)
        if service and len(service.tokens) == 1:
            click.echo(f"{name} has one token, which goes on working. To replace it: services rotate {name}", err=True)
        _change(drop_old_token(name))
        return
    require_output()
    token, stored = _new_token(name)
    _change(rotate_service(name, stored))
    click.echo(token)


@services.command("remove")
@with_name
def remove(name: str) -> None:
    """Remove the service NAME. Its tokens are refused within 10 seconds."""
    _change(remove_service(name))


@services.command("list")
def list_services() -> None:
    """Print each service on a line: its name, its grants, and when its tokens were made, separated by tabs."""
    for name, service in sorted(_read().items()):
        dates = (token.created_date.isoformat(timespec="seconds") for token in service.tokens)
        click.echo("\t".join([name, ",".join(sorted(service.grants)), ",".join(dates)]))


def _new_token(name: str) -> tuple[str, ServiceToken]:
    token = new_service_token(name)
    return token, ServiceToken(service_digest(token) or "", now())


def _read() -> Services:
    async def work() -> Services:
        async with existing_store(read_settings()) as store:
            return await store.read_services()

    return asyncio.run(work())


def _change(change: ServicesChange) -> None:
    async def work() -> None:
        async with existing_store(read_settings()) as store:
            await store.change_services(change)

    try:
        asyncio.run(work())
    except ServiceChangeRejected as error:
        raise click.ClickException(str(error)) from None
