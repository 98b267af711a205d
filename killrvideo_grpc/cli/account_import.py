"""The work of `accounts import`: open source and store, and print the report."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from killrvideo_grpc.cli.existing_store import opened_store, unchanged_store
from killrvideo_grpc.cli.operators import operator_actor
from killrvideo_grpc.cli.progress import print_line, progress
from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.account import now
from killrvideo_grpc.domain.errors import StoreUnavailable
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.migration.account_file import read_accounts
from killrvideo_grpc.migration.csv_source import read_folder
from killrvideo_grpc.migration.importer import Counts, Importer
from killrvideo_grpc.migration.killrvideo import plan
from killrvideo_grpc.migration.rows import Candidate, RefusedRow
from killrvideo_grpc.migration.source import Source
from killrvideo_grpc.server.stores import open_data_api

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api.killrvideo_source import KillrVideoSource

Rows = Iterable[Candidate | RefusedRow]


async def import_file(settings: Settings, path: Path, *, dry_run: bool) -> None:
    """Import a file of `accounts export`."""
    with _read_errors(path):
        file = path.open("rb")
    with file:
        rows = _file_rows(path, file)
        first = next(rows, None)  # reject an unusable file before opening the store
        size, position = (os.fstat(file.fileno()).st_size, file.tell) if file.seekable() else (None, None)
        async with _target(settings, dry_run=dry_run) as store:
            await _import(store, chain([first] if first else [], rows), size, dry_run=dry_run, position=position)


def _file_rows(path: Path, file: BinaryIO) -> Iterator[Candidate | RefusedRow]:
    with _read_errors(path):
        yield from read_accounts(file)


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{path} can't be read: {error.strerror}.") from None


async def import_csv(settings: Settings, folder: Path, *, dry_run: bool) -> None:
    """Import the CSV files in a folder."""
    source, broken = read_folder(folder)
    rows = _planned(source, broken)
    async with _target(settings, dry_run=dry_run) as store:
        await _import(store, rows, len(rows), dry_run=dry_run)


async def import_keyspace(
    settings: Settings, kind: str, keyspace: str | None, *, dry_run: bool, trust_roles: bool, purge: bool
) -> None:
    """Import the tables or collections of a keyspace. Then purge its credentials if `purge` is set."""
    from killrvideo_grpc.stores.data_api.killrvideo_source import KillrVideoSource

    has_credentials = settings.astra_db_application_token or (settings.astra_db_username and settings.astra_db_password)
    if not (settings.astra_db_api_endpoint and has_credentials):
        raise click.ClickException("Set ASTRA_DB_API_ENDPOINT and its credentials: the source is read from there.")
    in_place = settings.store == "astra" and keyspace in (None, settings.astra_db_keyspace)
    changes = {"astra_db_keyspace": keyspace} if keyspace else {}
    api = open_data_api(settings.model_copy(update=changes))
    try:
        reader = KillrVideoSource(api)
        with progress("Reading") as advance:
            source = await (reader.read_tables if kind == "tables" else reader.read_collections)(advance)
        rows = _planned(source, trust_roles=trust_roles)
        async with _target(settings, dry_run=dry_run) as store:
            importer = await _import(store, rows, len(rows), dry_run=dry_run)
            if in_place:
                _print_rewritten(importer.counts, dry_run=dry_run)
            if kind == "tables":
                await _purge(reader, importer.credentials, purge=purge, dry_run=dry_run)
    finally:
        await api.close()


def _planned(
    source: Source, broken: Iterable[RefusedRow] = (), *, trust_roles: bool = False
) -> list[Candidate | RefusedRow]:
    made = plan(source, now(), trust_roles=trust_roles)
    return [*broken, *made.refused, *made.accounts]


async def _import(
    store: AccountStore,
    rows: Rows,
    length: int | None,
    *,
    dry_run: bool,
    position: Callable[[], int] | None = None,
) -> Importer:
    """Import the rows and print the report, also if that is interrupted.

    Progress is the number of rows, or the `position` in a file, of `length`.
    """
    importer = Importer(store, operator_actor(), dry_run=dry_run, say=print_line)
    try:
        with (
            _interrupted_by_sigterm(),
            progress("Checking" if dry_run else "Importing", length, percent=position is not None) as advance,
        ):
            await importer.run(rows, _moving(position, advance) if position else advance)
    except StoreUnavailable as error:
        raise click.ClickException(
            f"The store does not answer as it should: {error}. Run the same command again to finish the import."
        ) from None
    finally:
        for line in _report(importer.counts, dry_run=dry_run):
            print_line(line)
    return importer


def _moving(position: Callable[[], int], advance: Callable[[int], object]) -> Callable[[int], None]:
    """Return a function that advances the bar to the position."""
    shown = 0

    def move(_: int) -> None:
        nonlocal shown
        before, shown = shown, position()
        advance(shown - before)

    return move


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the body as Ctrl-C does."""
    former = signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _report(counts: Counts, *, dry_run: bool) -> Iterable[str]:
    profiles = f" ({counts.profile_only} profile only)" if counts.profile_only else ""
    label = "Would import" if dry_run else "Imported"
    yield f"{label}: {counts.imported}{profiles}. Already there: {counts.existing}. Refused: {counts.refused}."
    if kinds := counts.unusable_passwords:
        listed = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
        yield f"Accounts whose password can't be checked: {kinds.total()} ({listed}). Their owners need a code:"
        yield "  killrvideo-grpc accounts reset-password EMAIL"


def _print_rewritten(counts: Counts, *, dry_run: bool) -> None:
    verb = "would change" if dry_run else "changed"
    click.echo(f"Rows of the table users that {verb}, because accounts are shown there: {counts.rewritten}.")


async def _purge(reader: "KillrVideoSource", keys: Sequence[str], *, purge: bool, dry_run: bool) -> None:
    """Delete the credentials with these keys, or say that they are left."""
    if purge and dry_run:
        click.echo(f"Would delete from the table user_credentials: {len(keys)}.")
    elif purge:
        with progress("Purging", len(keys)) as advance:
            await reader.purge(keys, advance)
        click.echo(f"Deleted from the table user_credentials: {len(keys)}.")
    elif keys:
        click.echo(
            f"The table user_credentials still has {len(keys)} passwords of these accounts, which other programs accept"
            " even after a change here. Delete them with --purge-credentials."
        )


def _target(settings: Settings, *, dry_run: bool) -> AbstractAsyncContextManager[AccountStore]:
    """Return the store that the settings name, to be opened. A dry run leaves it as it is."""
    return unchanged_store(settings) if dry_run else opened_store(settings)
