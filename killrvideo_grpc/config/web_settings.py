"""The settings of `edge web`."""

from pydantic import ValidationInfo, field_validator

from killrvideo_grpc.config.fields import Host, Port, Text, sibling_address
from killrvideo_grpc.config.settings import Settings, clear_text_risk


class WebSettings(Settings):
    """The service's settings, plus the edge's: where it listens, where the siblings do, and whether /docs is served."""

    http_host: Host = "127.0.0.1"
    http_port: Port = 8080
    http_docs: bool = True
    siblings_url: Text | None = None

    @field_validator("http_host")
    @classmethod
    def _loopback(cls, host: str, info: ValidationInfo) -> str:
        if not info.data.get("allow_insecure", True) and (risk := clear_text_risk(host)):
            raise ValueError(f"{risk} Set ALLOW_INSECURE=true if the network is private.")
        return host

    @field_validator("http_port")
    @classmethod
    def _own_port(cls, port: int, info: ValidationInfo) -> int:
        workers = info.data.get("workers", 1)
        for name in ("grpc_port", "metrics_port"):
            if (first := info.data.get(name)) and port in range(first, first + workers):
                raise ValueError(f"is one of the ports of {name.upper()}; with WORKERS, each has one per worker")
        return port

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
