"""`killrvideo-grpc health`."""

import ssl

import click

from killrvideo_grpc.config.fields import host_and_port
from killrvideo_grpc.config.loading import load_settings
from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.server.addresses import http_url, reachable_host

TIMEOUT = 2.0  # seconds
CHECK = "grpc.health.v1.Health/Check"
SERVICE = "killrvideo.user.v1.UserService"


@click.command("health")
def health() -> None:
    """Ask the service on this machine whether it is ready; exit with status 0 if a worker is, otherwise with 1.

    Reads the same settings as `serve`. If TLS_CLIENT_CA_FILE is set, the service's own certificate is the client's.
    That CA must have signed it, with clientAuth if it has an extended key usage.
    """
    settings = load_settings(Settings)
    if settings.grpc_port == 0:
        raise click.ClickException("GRPC_PORT is 0, so the port of the service isn't known.")
    host = reachable_host(settings.grpc_host)
    scheme = "https" if settings.tls_cert_file else "http"
    lines = []
    for port in range(settings.grpc_port, settings.grpc_port + settings.workers):
        status = _status(http_url(host, port, scheme), settings)
        lines.append(f"{host_and_port(host, port)}: {status}")
        if status == "SERVING":
            click.echo(lines[-1])
            return
    if settings.tls_client_ca_file:
        lines.append(
            "The CA in TLS_CLIENT_CA_FILE must have signed the certificate in TLS_CERT_FILE, with clientAuth if it has"
            " an extended key usage."
        )
    raise click.ClickException("\n".join(lines))


def _status(url: str, settings: Settings) -> str:
    """Return the worker's health, or why it isn't known.

    Uses httpx: grpcio would verify the certificate, which is not made for a loopback address.
    """
    import httpx
    from google.protobuf.message import DecodeError
    from grpc_health.v1 import health_pb2

    request = health_pb2.HealthCheckRequest(service=SERVICE).SerializeToString()
    headers = {"content-type": "application/grpc", "te": "trailers"}
    message = b"\0" + len(request).to_bytes(4, "big") + request
    try:
        with httpx.Client(
            http1=False, http2=True, verify=_unverified_tls(settings), trust_env=False, timeout=TIMEOUT
        ) as client:
            response = client.post(f"{url}/{CHECK}", headers=headers, content=message)
            answer = health_pb2.HealthCheckResponse.FromString(response.content[5:])
    except (httpx.HTTPError, DecodeError) as error:
        return str(error) or type(error).__name__
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _unverified_tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if settings.tls_cert_file:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    return context
