"""The command line: `killrvideo-grpc`, or `python -m killrvideo_grpc`."""

import asyncio
import errno
import getpass
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from killrvideo_grpc.composition import open_data_api, open_store
from killrvideo_grpc.config import ConfigurationError, Settings, load_settings
from killrvideo_grpc.domain.account import Account, Role
from killrvideo_grpc.domain.errors import LastModerator, StoreUnavailable, UnusableStore, UserNotFound
from killrvideo_grpc.edge.commands import edge
from killrvideo_grpc.lifecycle import serve
from killrvideo_grpc.listening import CannotListen
from killrvideo_grpc.logs import configure_logs
from killrvideo_grpc.rpc.access import UndeclaredAccess
from killrvideo_grpc.security.signing_keys import UnusableKey
from killrvideo_grpc.service.operators import Operators
from killrvideo_grpc.supervisor import WorkerFailed

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api import DataApi


# What writing to a full disk, or to something that is not open for it, fails with. Click ends quietly at a closed pipe.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class Commands(click.Group):
    """The commands. Ends with one line, not with a traceback, when standard output takes no text."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs the command that the arguments name."""
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            _drop_output()
            with suppress(OSError):
                click.echo(f"Error: Can't write to standard output: {error.strerror}.", err=True)
            sys.exit(1)


ROLE = click.Choice([role.value for role in Role])


class Email(click.ParamType[str]):
    """Any printable text. Excludes control characters, and bytes that don't fit the terminal's encoding."""

    name = "email"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.isprintable():
            self.fail("is not an e-mail address", param, ctx)
        return value


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("killrvideo-grpc"), message="%(prog)s %(version)s")
def main() -> None:
    """KillrVideo's user service over gRPC: accounts, logins, profiles and roles.

    Settings come from the environment and from a file `.env` in the working directory; without any, the service
    listens on 127.0.0.1:50051 and keeps its accounts in ./data. A `.env` that can't be read stops every command.

    \b
    A first session:
      killrvideo-grpc serve                                   start, and see how to make an account
      killrvideo-grpc roles assign ann@example.org moderator  make the first moderator
      killrvideo-grpc config check                            see which settings are in force
    """  # noqa: D301 # click takes the backspace itself for "leave these lines as they are"


@main.command("serve")
@click.option("--supervised", is_flag=True, hidden=True, help="Stop when standard input closes.")
def serve_command(supervised: bool) -> None:
    """Start the service, and stop it in order on SIGTERM or Ctrl-C.

    It listens on GRPC_HOST and GRPC_PORT. Any other host than loopback needs TLS_CERT_FILE and TLS_KEY_FILE, which may
    be replaced while the service runs, or ALLOW_INSECURE=true in a private network.

    METRICS_PORT adds metrics for Prometheus, on that port and for further workers on those after it. They have no TLS,
    so they stay on 127.0.0.1 where GRPC_HOST is not loopback, unless ALLOW_INSECURE=true.
    OTEL_EXPORTER_OTLP_ENDPOINT sends traces to a collector; that needs: pip install 'killrvideo-grpc[otel]'.
    """
    with _clear_errors():
        settings = _settings()
        serve(settings, lambda ports: _announce(_welcome(settings, ports)), supervised)


@main.group()
def roles() -> None:
    """Show and change the roles of an account.

    Roles are a ladder: a moderator may do what a creator may, and a creator what a viewer may. A change counts from
    the account's next call on; it needs no new login.
    """


@roles.command("assign")
@click.argument("email", type=Email())
@click.argument("role", type=ROLE)
def assign(email: str, role: str) -> None:
    """Give the account with the address EMAIL a ROLE."""

    async def work() -> None:
        async with _operators() as operators:
            _print_roles(await operators.assign_role(email, Role(role)))

    _run(work())


@roles.command("revoke")
@click.argument("email", type=Email())
@click.argument("role", type=ROLE)
@click.option("--force", is_flag=True, help="Take the role of moderator from the last moderator too.")
def revoke(email: str, role: str, force: bool) -> None:
    """Take a ROLE from the account with the address EMAIL. The last moderator keeps theirs."""

    async def work() -> None:
        async with _operators() as operators:
            _print_roles(await operators.revoke_role(email, Role(role), force=force))

    _run(work())


@roles.command("list")
@click.argument("email", type=Email())
def list_roles(email: str) -> None:
    """List the roles of the account with the address EMAIL, one per line."""

    async def work() -> None:
        async with _operators() as operators:
            _print_roles(await operators.find(email))

    _run(work())


@main.group()
def schema() -> None:
    """Prepare and check the keyspace on Astra DB, or on another Data API.

    SQLite needs neither: the service makes its file and keeps it up to date.
    """


@schema.command("create")
@click.option(
    "--keyspace", is_flag=True, help="Make the keyspace too. On Astra DB this needs an administrator's token."
)
def create_schema(keyspace: bool) -> None:
    """Create what the keyspace lacks: tables, columns, index, collection. Never drops or rewrites anything."""
    from killrvideo_grpc.stores import astra_schema

    async def work() -> None:
        async with _data_api() as api:
            async for done in astra_schema.create(api, keyspace=keyspace):
                click.echo(done)
            click.echo(f"Keyspace {api.database.keyspace} has everything it needs.")

    _run(work())


@schema.command("check")
@click.option("--repair", is_flag=True, help="Finish what crashed processes left half done, and remove orphans.")
def check_schema(repair: bool) -> None:
    """Compare the keyspace with what the service needs; exit with 1 on a difference."""
    from killrvideo_grpc.stores import astra_schema
    from killrvideo_grpc.stores.astra_repair import Repairs

    async def work() -> None:
        async with _data_api() as api:
            missing = await astra_schema.check(api)
            for difference in missing:
                click.echo(f"missing or different: {difference.text}")
            if missing:
                raise click.ClickException("Create what is missing with: killrvideo-grpc schema create")
            click.echo(f"Keyspace {api.database.keyspace} has everything it needs.")
            if repair:
                repaired = await Repairs(api).repair()
                click.echo(
                    f"Repaired: {repaired.finished} unfinished accounts, {repaired.moderators} moderators."
                    f" Removed: {repaired.orphans} orphans. Freed: {repaired.claims} addresses."
                )

    _run(work())


main.add_command(edge)


@main.group()
def config() -> None:
    """Look at the settings."""


@config.command("check")
def check() -> None:
    """Print the settings that are in force, secrets hidden; exit with 1 when one is missing or wrong."""
    with _clear_errors():
        for name, value in load_settings(Settings):
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            click.echo(f"{name.upper()}={'' if shown is None else shown}")


def _settings() -> Settings:
    settings = load_settings(Settings)
    configure_logs(settings.log_level, settings.log_format)
    return settings


def _run(work: Coroutine[Any, Any, None]) -> None:
    with _clear_errors():
        asyncio.run(work)


@asynccontextmanager
async def _operators() -> AsyncIterator[Operators]:
    settings = _settings()
    if settings.store == "sqlite":
        _find_database(settings.sqlite_path)
    store = await open_store(settings)
    try:
        yield Operators(store, _login_name())
    except UserNotFound:
        raise click.ClickException(f"No account has this e-mail address in {_place(settings)}.") from None
    except LastModerator:
        raise click.ClickException("This is the last moderator. Make another one first, or use --force.") from None
    finally:
        await store.close()


@asynccontextmanager
async def _data_api() -> "AsyncIterator[DataApi]":
    settings = _settings()
    if settings.store != "astra":
        raise click.ClickException(
            "STORE is sqlite, which needs no schema. Set STORE=astra and the ASTRA_DB_ settings."
        )
    api = open_data_api(settings)
    try:
        yield api
    finally:
        await api.close()


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turns what the person at the keyboard can fix into one clear message and exit code 1."""
    try:
        yield
    except (ConfigurationError, UnusableKey, CannotListen, UndeclaredAccess) as error:
        raise click.ClickException(str(error)) from None
    except UnusableStore as error:
        raise click.ClickException(f"The store can't be used: {error}.") from None
    except StoreUnavailable as error:
        raise click.ClickException(f"The store does not answer: {error}. Try again later.") from None
    except WorkerFailed:
        raise click.ClickException("A worker could not start; its own message is above.") from None


def _find_database(path: Path) -> None:
    try:
        if path.exists():
            return
    except OSError as error:
        text = f"The database at {path} can't be reached: {error.strerror}."
        raise click.ClickException(f"{text} Run this as the user who runs the service.") from None
    text = f"There is no database at {path}."
    raise click.ClickException(f"{text} Run this in the service's folder, or set SQLITE_PATH.")


def _announce(text: str) -> None:
    # A service that serves must not end because nobody can read its first screen.
    try:
        click.echo(text)
    except OSError:
        _drop_output()


def _drop_output() -> None:
    """Drops what waits in standard output, which Python would try to write once more in the end."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as some container platforms run processes
        return f"uid {os.getuid()}"


def _place(settings: Settings) -> str:
    if settings.store == "sqlite":
        return str(settings.sqlite_path)
    return f"keyspace {settings.astra_db_keyspace} at {settings.astra_db_api_endpoint}"


def _print_roles(account: Account) -> None:
    for role in Role:
        if role in account.roles:
            click.echo(role.value)


def _welcome(settings: Settings, ports: list[int]) -> str:
    addresses = ", ".join(map(settings.address, ports))
    key = "SECRET_KEY" if settings.secret_key else settings.secret_key_path
    urls = settings.metrics_urls()
    metrics = f"\n  metrics {', '.join(urls)}" if urls else ""
    call = "grpcurl" if settings.tls_cert_file else "grpcurl -plaintext"
    service = f"{settings.address(ports[0])} killrvideo.user.v1.UserService"
    return f"""{settings.project_name} user service on {addresses}
  store  {settings.store}, {_place(settings)}
  key    {key}{metrics}

Make an account, log in, and see yourself (`make setup` puts grpcurl into .venv/bin):
  {call} -d '{{"email":"ann@example.org","password":"correct horse","first_name":"Ann","last_name":"Lee"}}' \\
    {service}/Register
  TOKEN=$({call} -d '{{"email":"ann@example.org","password":"correct horse"}}' \\
    {service}/Login | sed -n 's/.*"token": "\\(.*\\)".*/\\1/p')
  {call} -H "authorization: Bearer $TOKEN" {service}/GetMe

Ctrl-C stops it."""


if __name__ == "__main__":
    main(prog_name="killrvideo-grpc")
