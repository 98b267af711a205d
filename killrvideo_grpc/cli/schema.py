"""`killrvideo-grpc schema`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from killrvideo_grpc.cli.config import read_settings

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api.client import DataApi


@click.group()
def schema() -> None:
    """Create and check the tables on Astra DB or another Data API.

    Only needed with STORE=astra. With SQLite, the service creates its file and migrates it by itself.
    """


@schema.command("create")
@click.option(
    "--keyspace", is_flag=True, help="Create the keyspace too. On Astra DB, this requires an administrator's token."
)
def create_schema(keyspace: bool) -> None:
    """Create whatever is missing from the keyspace: tables, columns, index, collection.

    Run it before the first start, and after an upgrade that changes the schema. It never drops or rewrites anything.
    """
    from killrvideo_grpc.stores.astra import schema as astra_schema

    async def work() -> None:
        async with _data_api() as api:
            async for done in astra_schema.create(api, keyspace=keyspace):
                click.echo(done)
            click.echo(f"Schema of {api.database.keyspace} is up to date.")

    asyncio.run(work())


@schema.command("check")
@click.option(
    "--repair",
    is_flag=True,
    help="Also finish what crashed processes left unfinished, and delete accounts that never got their address.",
)
def check_schema(repair: bool) -> None:
    """Compare the keyspace with what the service needs; exit with status 1 if something is missing or wrong."""
    from killrvideo_grpc.stores.astra import schema as astra_schema
    from killrvideo_grpc.stores.astra.store import AstraStore

    async def work() -> None:
        async with _data_api() as api:
            differences = await astra_schema.check(api)
            for difference in differences:
                click.echo(f"{'missing' if difference.create else 'wrong'}: {difference.text}")
            if differences:
                raise click.ClickException(f"{astra_schema.advice(differences)}.")
            click.echo(f"Schema of {api.database.keyspace} is up to date.")
            if repair:
                repaired = await AstraStore(api).repair()
                click.echo(
                    f"Finished accounts: {repaired.finished}."
                    f" Corrections of the moderator index: {repaired.moderators}."
                    f" Deleted unclaimed accounts: {repaired.unclaimed}. Freed addresses: {repaired.claims}."
                )
                if repaired.failed:
                    raise click.ClickException(f"Left unfinished: {repaired.failed} documents; the log lines say why.")

    asyncio.run(work())


@asynccontextmanager
async def _data_api() -> AsyncIterator["DataApi"]:
    from killrvideo_grpc.server.stores import open_data_api

    settings = read_settings()
    if settings.store != "astra":
        raise click.ClickException(
            "STORE is sqlite, whose schema the service manages itself. Set STORE=astra and the ASTRA_DB_ settings."
        )
    api = open_data_api(settings)
    try:
        yield api
    finally:
        await api.close()
