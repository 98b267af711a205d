"""The settings of `edge web`."""

from pydantic import ValidationInfo, field_validator

from killrvideo_grpc.config.fields import Host, Port, Text, sibling_address
from killrvideo_grpc.config.settings import Settings, clear_text_risk
from killrvideo_grpc.domain.errors import SetupError


class WebSettings(Settings):
    """The service's settings, plus the edge's: where it listens, where the siblings do, and whether /docs is served."""

    http_host: Host = "127.0.0.1"
    http_port: Port = 8080
    http_docs: bool = True
    siblings_url: Text | None = None

    @field_validator("siblings_url")  # declared after the edge's own address
    @classmethod
    def _siblings_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None:
            sibling_address(url, info.data.get("http_host", ""), info.data.get("http_port", 0))
        return url

    @property
    def siblings(self) -> tuple[str, int] | None:
        """The host and the port of SIBLINGS_URL."""
        return sibling_address(self.siblings_url, self.http_host, self.http_port) if self.siblings_url else None

    def check_listener(self) -> None:
        """Raise SetupError if the edge must not listen on HTTP_HOST in clear text, or the service needs HTTP_PORT."""
        if not self.allow_insecure and (risk := clear_text_risk(self.http_host)):
            raise SetupError(f"HTTP_HOST {risk} Set ALLOW_INSECURE=true if the network is private.")
        for name, first in (("GRPC_PORT", self.grpc_port), ("METRICS_PORT", self.metrics_port)):
            if first and self.http_port in range(first, first + self.workers):
                raise SetupError(f"HTTP_PORT is one of the ports of {name}, of which each worker needs one.")
