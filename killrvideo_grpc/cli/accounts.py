"""`killrvideo-grpc accounts export` and `import`."""

import asyncio
import re
from pathlib import Path

import click

from killrvideo_grpc.cli.config import read_settings, store_location
from killrvideo_grpc.cli.existing_store import existing_store
from killrvideo_grpc.config.fields import KEYSPACE


@click.group()
def accounts() -> None:
    """Move accounts, and manage them without their passwords."""


@accounts.command("export")
@click.argument("file", type=click.Path(path_type=Path))
def export(file: Path) -> None:
    """Write all accounts to FILE, for `accounts import`.

    Each account takes one line of JSON: id, address, names, roles, status, dates and password hash. Sessions and events
    stay behind. The service can go on running, but what changes meanwhile may be missing.

    FILE must not exist. It appears when it is complete, readable only by you. Keep it private: whoever has it can guess
    passwords. A command that is killed leaves FILE.<random>.partial.
    """
    from killrvideo_grpc.cli.progress import progress
    from killrvideo_grpc.migration.exporter import export_accounts

    settings = read_settings()

    async def work() -> int:
        async with existing_store(settings) as store:
            with progress("Exporting") as advance:
                return await export_accounts(store, file, advance)

    count = asyncio.run(work())
    click.echo(f"Exported {count} accounts from {store_location(settings)} to {click.format_filename(file)}.")


@accounts.command("import")
@click.argument("path", metavar="[FILE|DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Read everything and report what would happen, but write nothing.")
@click.option(
    "--from-killrvideo",
    "kind",
    type=click.Choice(["tables", "collections", "csv"]),
    help="Read the accounts of an existing KillrVideo database instead of a file of `accounts export`.",
)
@click.option("--keyspace", help="The keyspace of the tables or collections. Default: ASTRA_DB_KEYSPACE.")
@click.option("--trust-roles", is_flag=True, help="Take over the roles in collections, which anybody could set.")
@click.option(
    "--purge-credentials",
    is_flag=True,
    help="Afterwards, delete the old password hashes of imported accounts from the table user_credentials.",
)
def import_accounts(
    path: Path | None, dry_run: bool, kind: str | None, keyspace: str | None, trust_roles: bool, purge_credentials: bool
) -> None:
    """Bring accounts into the store that the settings name.

    Ids and password hashes are kept. An account that exists already stays as it is. Run the same command again to
    finish an interrupted import. The service can go on running.

    The report on standard output counts what was imported, was there already, or was refused, and names each row
    whose address, role, names or dates didn't come through whole. It shows no passwords or hashes.

    \b
    Move to another store:
      killrvideo-grpc accounts export accounts.jsonl                   with the settings of the old store
      killrvideo-grpc accounts import accounts.jsonl                   with those of the new one
    Take over an existing KillrVideo database:
      killrvideo-grpc accounts import --from-killrvideo tables --dry-run
      killrvideo-grpc accounts import --from-killrvideo tables
      killrvideo-grpc accounts import --from-killrvideo csv DIR        with users.csv and user_credentials.csv in DIR

    Tables and collections are read from the Data API of the ASTRA_DB_ settings, also with STORE=sqlite.
    """  # noqa: D301 # \b tells click not to rewrap the lines that follow
    from killrvideo_grpc.cli import account_import

    _check_options(path, kind, keyspace, trust_roles=trust_roles, purge_credentials=purge_credentials)
    settings = read_settings()
    if path is None:
        work = account_import.import_keyspace(
            settings, str(kind), keyspace, dry_run=dry_run, trust_roles=trust_roles, purge=purge_credentials
        )
    elif kind == "csv":
        work = account_import.import_csv(settings, path, dry_run=dry_run)
    else:
        work = account_import.import_file(settings, path, dry_run=dry_run)
    asyncio.run(work)


def _check_options(
    path: Path | None, kind: str | None, keyspace: str | None, *, trust_roles: bool, purge_credentials: bool
) -> None:
    """Fail if the options don't go together."""
    if kind is None and path is None:
        raise click.UsageError("Name the FILE of `accounts export`, or use --from-killrvideo.")
    if kind == "csv" and path is None:
        raise click.UsageError("Name the folder of users.csv and user_credentials.csv.")
    if kind in ("tables", "collections") and path is not None:
        raise click.UsageError(f"--from-killrvideo {kind} reads from the Data API, not from {path}.")
    if keyspace is not None and (kind in (None, "csv") or not re.fullmatch(KEYSPACE, keyspace)):
        raise click.UsageError("--keyspace is the name of a keyspace, for --from-killrvideo tables or collections.")
    if trust_roles and kind != "collections":
        raise click.UsageError("--trust-roles is for --from-killrvideo collections.")
    if purge_credentials and kind != "tables":
        raise click.UsageError("--purge-credentials is for --from-killrvideo tables.")
