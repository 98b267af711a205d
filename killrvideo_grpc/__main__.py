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


# Errors of writing to a full disk, or to a file that is not open for writing. Click itself exits quietly on a closed
# pipe.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class Commands(click.Group):
    """The commands. If standard output can't be written, they exit with one line instead of a traceback."""

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
    """Any printable text: no control characters, and no bytes that the terminal's encoding can't decode."""

    name = "email"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.isprintable():
            self.fail("is not an e-mail address", param, ctx)
        return value


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("killrvideo-grpc"), message="%(prog)s %(version)s")
def main() -> None:
    """KillrVideo's user service over gRPC: accounts, logins, profiles and roles.

    Settings are read from environment variables and from a `.env` file in the working directory; .env.example in the
    source repository documents all of them. Without any, the service listens on 127.0.0.1:50051 and stores its
    accounts in ./data. All commands refuse to run if `.env` can't be read or parsed.

    \b
    A first session:
      killrvideo-grpc serve                                   start the service; prints how to register
      killrvideo-grpc roles assign ann@example.org moderator  make a registered account the first moderator
      killrvideo-grpc config check                            print the settings in force
    """  # noqa: D301 # \b tells click not to rewrap the lines that follow


@main.command("serve")
@click.option("--supervised", is_flag=True, hidden=True, help="Stop when standard input is closed.")
def serve_command(supervised: bool) -> None:
    """Start the service. SIGTERM or Ctrl-C stops it gracefully.

    The service listens on GRPC_HOST and GRPC_PORT. A host other than loopback requires TLS_CERT_FILE and TLS_KEY_FILE
    (the files may be replaced while the service runs) or, in a private network, ALLOW_INSECURE=true. WORKERS starts
    several processes, each on its own port: GRPC_PORT, GRPC_PORT + 1, and so on.

    On SIGTERM, health checks report NOT_SERVING while the service keeps serving for DRAIN_SECONDS. Calls in progress
    then have GRACE_PERIOD_SECONDS to finish.

    METRICS_PORT enables metrics for Prometheus: the first worker serves them on that port, further workers on the
    ports after it. They have no TLS, so they are served on 127.0.0.1 if GRPC_HOST is not loopback, unless
    ALLOW_INSECURE=true. OTEL_EXPORTER_OTLP_ENDPOINT sends traces to an OpenTelemetry collector; that requires
    pip install 'killrvideo-grpc[otel]'.
    """
    with _clear_errors():
        settings = _settings()
        serve(settings, lambda ports: _announce(_welcome(settings, ports)), supervised)


@main.group()
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

    _run(work())


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

    _run(work())


@roles.command("list")
@click.argument("email", type=Email())
def list_roles(email: str) -> None:
    """Print the roles of the account with the e-mail address EMAIL, one per line."""

    async def work() -> None:
        async with _operators() as operators:
            _print_roles(await operators.find(email))

    _run(work())


@main.group()
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

    Run it once before the first start, and again after an upgrade that changes the schema. It never drops or rewrites
    anything, so running it again is harmless.
    """
    from killrvideo_grpc.stores import astra_schema

    async def work() -> None:
        async with _data_api() as api:
            async for done in astra_schema.create(api, keyspace=keyspace):
                click.echo(done)
            click.echo(f"Keyspace {api.database.keyspace} has everything it needs.")

    _run(work())


@schema.command("check")
@click.option("--repair", is_flag=True, help="Also finish what crashed processes left half done, and remove orphans.")
def check_schema(repair: bool) -> None:
    """Compare the keyspace with what the service needs; exit with status 1 if something is missing or different."""
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
    """Inspect the settings."""


@config.command("check")
def check() -> None:
    """Print the settings in force, with secrets masked; exit with status 1 if one is missing or invalid.

    Use it to see which values the environment and `.env` result in, without starting the service.
    """
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
        text = "This is the last moderator. Assign the role to another account first, or use --force."
        raise click.ClickException(text) from None
    finally:
        await store.close()


@asynccontextmanager
async def _data_api() -> "AsyncIterator[DataApi]":
    settings = _settings()
    if settings.store != "astra":
        raise click.ClickException(
            "STORE is sqlite, whose schema the service manages itself. Set STORE=astra and the ASTRA_DB_ settings."
        )
    api = open_data_api(settings)
    try:
        yield api
    finally:
        await api.close()


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turns errors that the operator can fix into one message and exit status 1."""
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
    raise click.ClickException(f"{text} Run this in the directory where the service runs, or set SQLITE_PATH.")


def _announce(text: str) -> None:
    # The service is running already; it must not stop just because its welcome can't be printed.
    try:
        click.echo(text)
    except OSError:
        _drop_output()


def _drop_output() -> None:
    """Discards buffered output, which Python would otherwise try to write again at exit."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id has no name, as on some container platforms
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

Register an account, log in, and read your own account (`make setup` installs grpcurl in .venv/bin):
  {call} -d '{{"email":"ann@example.org","password":"correct horse","first_name":"Ann","last_name":"Lee"}}' \\
    {service}/Register
  TOKEN=$({call} -d '{{"email":"ann@example.org","password":"correct horse"}}' \\
    {service}/Login | sed -n 's/.*"token": "\\(.*\\)".*/\\1/p')
  {call} -H "authorization: Bearer $TOKEN" {service}/GetMe

Ctrl-C stops it."""


if __name__ == "__main__":
    main(prog_name="killrvideo-grpc")
