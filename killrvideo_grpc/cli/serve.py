"""`killrvideo-grpc serve`."""

import json
from functools import partial

import click

from killrvideo_grpc.cli.config import read_settings, store_location
from killrvideo_grpc.cli.errors import drop_output
from killrvideo_grpc.config.settings import Settings


@click.command("serve")
@click.option("--supervised", is_flag=True, hidden=True, help="Print JSON; stop when stdin closes.")
def serve(supervised: bool) -> None:
    """Start the service. SIGTERM, SIGHUP or Ctrl-C stops it gracefully.

    The service listens on GRPC_HOST and GRPC_PORT. A host other than loopback requires TLS_CERT_FILE and TLS_KEY_FILE
    or, in a private network, ALLOW_INSECURE=true. WORKERS starts several processes, each on its own port: GRPC_PORT,
    GRPC_PORT + 1, and so on.

    When it stops, health checks report NOT_SERVING while it keeps serving for DRAIN_SECONDS. Calls in progress then
    have GRACE_PERIOD_SECONDS to finish.

    METRICS_PORT enables metrics for Prometheus, OTEL_EXPORTER_OTLP_ENDPOINT traces. .env.example explains all settings.
    """
    # Import late: --help should not wait for grpcio.
    from killrvideo_grpc.server import lifecycle

    settings = read_settings()
    describe = _to_json if supervised else partial(_welcome, settings)
    lifecycle.serve(settings, lambda ports: _announce(describe(ports)), supervised)


def _announce(text: str) -> None:
    # A service that can't print its welcome still serves.
    try:
        click.echo(text)
    except OSError:
        drop_output()


def _to_json(ports: list[int]) -> str:
    return json.dumps({"ports": ports})


def _welcome(settings: Settings, ports: list[int]) -> str:
    addresses = ", ".join(map(settings.address, ports))
    key = "SECRET_KEY" if settings.secret_key else settings.secret_key_path
    urls = settings.metrics_urls()
    metrics = f"\n  metrics {', '.join(urls)}" if urls else ""
    call = "grpcurl" if settings.tls_cert_file else "grpcurl -plaintext"
    service = f"{settings.address(ports[0])} killrvideo.user.v1.UserService"
    return f"""{settings.project_name} user service on {addresses}
  store  {settings.store}, {store_location(settings)}
  key    {key}{metrics}

Register an account, log in, and read your own account (grpcurl is in .venv/bin after `make run`):
  {call} -d '{{"email":"ann@example.org","password":"correct horse","first_name":"Ann","last_name":"Lee"}}' \\
    {service}/Register
  TOKEN=$({call} -d '{{"email":"ann@example.org","password":"correct horse"}}' \\
    {service}/Login | sed -n 's/.*"token": "\\(.*\\)".*/\\1/p')
  {call} -H "authorization: Bearer $TOKEN" {service}/GetMe

Ctrl-C stops it."""
