"""`killrvideo-grpc config`, and the settings of the other commands."""

import click
import structlog

from killrvideo_grpc.config.loading import load_settings
from killrvideo_grpc.config.service_links import service_links
from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.observability.logs import configure_logs

LINK = "It holds the address of a Kubernetes Service. To use it as a port, set enableServiceLinks: false."


def read_settings() -> Settings:
    """Read the settings and configure the logs."""
    settings = load_settings(Settings)
    configure_logs(settings.log_level, settings.log_format)
    for name in service_links():
        structlog.get_logger().warning(f"{name} ignored", cause=LINK)
    return settings


def store_location(settings: Settings) -> str:
    """Return where the accounts are: the path of SQLite's file, or the keyspace and its Data API."""
    if settings.store == "sqlite":
        return str(settings.sqlite_path)
    return f"keyspace {settings.astra_db_keyspace} at {settings.astra_db_api_endpoint}"


@click.group()
def config() -> None:
    """Inspect the settings."""


@config.command("check")
def check() -> None:
    """Print the settings in force, the edge's too, with secrets masked.

    Exit with status 1 if one is missing or invalid. `edge web` also checks that HTTP_HOST and HTTP_PORT can be used.
    """
    from killrvideo_grpc.config.web_settings import WebSettings

    settings = load_settings(WebSettings)
    for name in service_links():
        click.echo(f"Warning: {name} is ignored. {LINK}", err=True)
    for name, value in settings:
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        click.echo(f"{name.upper()}={'' if shown is None else shown}")
