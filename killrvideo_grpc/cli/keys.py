"""`killrvideo-grpc keys`."""

import click

from killrvideo_grpc.config.loading import load_settings
from killrvideo_grpc.config.settings import Settings


@click.group()
def keys() -> None:
    """Show the public keys of access tokens."""


@keys.command("list")
def list_keys() -> None:
    """Print the public keys as a JSON Web Key Set, for those who can't fetch /.well-known/jwks.json.

    The first belongs to SECRET_KEY, the others to SECRET_KEY_FALLBACKS. With an ALGORITHM other than ES256, the set is
    empty.
    """
    from killrvideo_grpc.security.access_keys import access_keys, json_web_keys, key_set_document

    settings = load_settings(Settings)
    if settings.secret_key is None and not settings.secret_key_path.exists():
        text = f"SECRET_KEY is not set, and there is no key at {settings.secret_key_path}."
        raise click.ClickException(f"{text} Run this in the directory where the service runs, or set SQLITE_PATH.")
    click.echo(key_set_document(json_web_keys(access_keys(settings.accepted_keys(), settings.algorithm))))
