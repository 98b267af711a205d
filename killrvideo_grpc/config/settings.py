"""The settings, from the environment and the `.env` file in the working directory."""

import ipaddress
import re
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from killrvideo_grpc.config.fields import (
    KEYSPACE,
    MAX_PORT,
    Attempts,
    ExpandedPath,
    Host,
    Port,
    ReadableFile,
    Secret,
    Text,
    TokenClaim,
    host_and_port,
)
from killrvideo_grpc.config.service_links import service_links
from killrvideo_grpc.config.tls import check_client_ca, check_tls_pair
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.security.keys import ADVICE, check_secret_key, load_or_create_key

ENV_FILE = ".env"
NO_AUDIENCE = "none"


class Settings(BaseSettings):
    """All settings. `.env.example` documents them."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    project_name: Text = "KillrVideo"

    store: Literal["sqlite", "astra"] = "sqlite"
    sqlite_path: ExpandedPath = Path("data/killrvideo.db")
    astra_db_api_endpoint: Annotated[Text | None, Field(validate_default=True)] = None
    astra_db_keyspace: Annotated[Text, Field(pattern=KEYSPACE)] = "killrvideo"
    astra_db_environment: Literal["prod", "dev", "test", "hcd", "dse", "cassandra", "other"] = "prod"
    astra_db_username: Text | None = None
    astra_db_password: Secret | None = None
    astra_db_application_token: Annotated[Secret | None, Field(validate_default=True)] = None
    astra_db_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0

    secret_key: Annotated[Secret | None, Field(validate_default=True)] = None
    secret_key_fallbacks: Annotated[tuple[Secret, ...], NoDecode] = ()
    algorithm: Literal["ES256", "HS256", "HS384", "HS512"] = "ES256"
    token_issuer: TokenClaim = "killrvideo.user.v1"  # noqa: S105 # no secret
    token_audience: TokenClaim = "killrvideo"  # noqa: S105 # no secret
    access_token_expire_minutes: Annotated[int, Field(ge=1, le=60 * 24 * 365)] = 30
    clock_skew_seconds: Annotated[int, Field(ge=0, le=300)] = 30
    refresh_token_expire_days: Annotated[int, Field(ge=1, le=3650)] = 30
    session_max_days: Annotated[int, Field(ge=1, le=3650)] = 90
    password_reset_minutes: Annotated[int, Field(ge=1, le=60 * 24 * 7)] = 60
    bcrypt_rounds: Annotated[int, Field(ge=4, le=31)] = 12

    max_failures_per_account_and_source: Attempts = 20
    max_failures_per_source: Attempts = 200
    max_failures_per_account: Attempts = 100
    max_registrations_per_source: Attempts = 1000
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()

    grpc_host: Host = "127.0.0.1"
    grpc_port: Port = 50051
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    max_concurrent_rpcs: Annotated[int, Field(ge=1, le=100_000)] = 1024
    max_connection_age_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    grace_period_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    tls_cert_file: ReadableFile | None = None
    tls_key_file: Annotated[ReadableFile | None, Field(validate_default=True)] = None
    tls_client_ca_file: ReadableFile | None = None
    allow_insecure: Annotated[bool, Field(validate_default=True)] = False

    metrics_port: Annotated[int | None, Field(ge=1, le=MAX_PORT)] = None
    otel_exporter_otlp_endpoint: Annotated[Text | None, Field(pattern=r"^https?://[^\s@?#]+$")] = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "text"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Ignore service links. The commands warn of them."""
        if isinstance(env_settings, EnvSettingsSource):
            links = {name.lower() for name in service_links()}
            values = env_settings.env_vars.items()
            env_settings.env_vars = {name: value for name, value in values if name.lower() not in links}
        return init_settings, env_settings, dotenv_settings

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper_case(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("sqlite_path")
    @classmethod
    def _path_of_a_file(cls, path: Path) -> Path:
        if str(path) in {".", ":memory:"}:
            raise ValueError("must be the path of a file, because workers share it and restarts reuse it")
        return path

    @field_validator("trusted_proxies", "secret_key_fallbacks", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return [each.strip() for each in value.split(",")] if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxy_networks(cls, networks: tuple[IPvAnyNetwork, ...]) -> tuple[IPvAnyNetwork, ...]:
        unmapped = tuple(map(_unmap_ipv4, networks))
        if any(network.prefixlen == 0 for network in unmapped):
            raise ValueError("must not include every address: anyone could write x-forwarded-for")
        return unmapped

    @field_validator("workers")
    @classmethod
    def _grpc_ports(cls, workers: int, info: ValidationInfo) -> int:
        if info.data.get("grpc_port", 0) + workers - 1 > MAX_PORT:
            raise ValueError(f"needs one port per worker, from GRPC_PORT on; the last would be above {MAX_PORT}")
        return workers

    @field_validator("secret_key")
    @classmethod
    def _strong_key(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if key is None:
            if info.data.get("store") == "astra":
                raise ValueError(f"is required with STORE=astra, the same for all processes; {ADVICE}")
            return None
        check_secret_key(key.get_secret_value())
        return key

    @field_validator("secret_key_fallbacks")
    @classmethod
    def _strong_fallbacks(cls, keys: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        for number, key in enumerate(keys, 1):
            try:
                check_secret_key(key.get_secret_value())
            except ValueError as error:
                raise ValueError(f"key {number} {error}") from None
        if info.data.get("secret_key") in keys or len(set(keys)) < len(keys):
            raise ValueError("must not repeat a key or SECRET_KEY")
        return keys

    @field_validator("astra_db_api_endpoint")
    @classmethod
    def _endpoint_url(cls, endpoint: str | None, info: ValidationInfo) -> str | None:
        if endpoint is None and info.data.get("store") != "astra":
            return None
        # astrapy accepts no other hosts, such as IPv6 addresses.
        url = re.fullmatch(
            r"https?://(?:[a-z0-9-]+\.)*[a-z0-9-]+\.?(?::([0-9]{1,5}))?/?", endpoint or "", re.IGNORECASE
        )
        if endpoint is None or url is None or int(url[1] or 0) > MAX_PORT:
            required = "is required with STORE=astra: the" if endpoint is None else "must be the"
            raise ValueError(f"{required} URL of the Data API, https://HOST or http://HOST:PORT")
        return endpoint.rstrip("/")

    @field_validator("astra_db_application_token")  # declared after user name and password
    @classmethod
    def _credentials(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if token is not None and not token.get_secret_value():
            token = None
        if token is not None and not token.get_secret_value().isascii():
            raise ValueError("must contain only ASCII characters, because it is sent in an HTTP header")
        has_user = bool(info.data.get("astra_db_username") and info.data.get("astra_db_password"))
        if info.data.get("store") == "astra" and token is None and not has_user:
            raise ValueError("is required with STORE=astra, unless ASTRA_DB_USERNAME and ASTRA_DB_PASSWORD are set")
        return token

    @field_validator("tls_key_file")
    @classmethod
    def _tls_pair(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if _is_given(info, "tls_cert_file") != bool(key):
            raise ValueError("TLS needs both TLS_CERT_FILE and TLS_KEY_FILE; TLS_CLIENT_CA_FILE is optional")
        if key and info.data.get("tls_cert_file"):
            check_tls_pair(info.data["tls_cert_file"], key)
        return key

    @field_validator("tls_client_ca_file")
    @classmethod
    def _tls_client_ca(cls, client_ca: Path | None, info: ValidationInfo) -> Path | None:
        if client_ca:
            if not (_is_given(info, "tls_cert_file") or _is_given(info, "tls_key_file")):
                raise ValueError("needs TLS_CERT_FILE and TLS_KEY_FILE")
            check_client_ca(client_ca)
        return client_ca

    @field_validator("allow_insecure")  # declared after the host and the TLS files
    @classmethod
    def _encrypted(cls, allowed: bool, info: ValidationInfo) -> bool:
        has_tls = _is_given(info, "tls_cert_file") and _is_given(info, "tls_key_file")
        if not allowed and not has_tls and (risk := clear_text_risk(info.data.get("grpc_host", ""))):
            advice = "Set TLS_CERT_FILE and TLS_KEY_FILE, or ALLOW_INSECURE=true if the network is private."
            raise ValueError(f"GRPC_HOST {risk} {advice}")
        return allowed

    @field_validator("metrics_port")
    @classmethod
    def _metrics_ports(cls, first: int | None, info: ValidationInfo) -> int | None:
        workers, grpc_port = info.data.get("workers", 1), info.data.get("grpc_port", 0)
        if first is None:
            return None
        if first + workers - 1 > MAX_PORT:
            raise ValueError(f"needs one port per worker, from METRICS_PORT on; the last would be above {MAX_PORT}")
        if grpc_port and abs(first - grpc_port) < workers:
            raise ValueError(
                "needs one port per worker, and these overlap the gRPC ports;"
                " set it at least WORKERS above or below GRPC_PORT"
            )
        return first

    def address(self, port: int) -> str:
        """Return the address of the service on this port."""
        return host_and_port(self.grpc_host, port)

    def metrics_urls(self) -> list[str]:
        """Return the URL of each worker's metrics; none without METRICS_PORT."""
        if self.metrics_port is None:
            return []
        ports = range(self.metrics_port, self.metrics_port + self.workers)
        return [f"http://{host_and_port(self.metrics_host, port)}/metrics" for port in ports]

    @property
    def metrics_host(self) -> str:
        """GRPC_HOST, or 127.0.0.1 where that would expose metrics without TLS."""
        return self.grpc_host if self.allow_insecure or not clear_text_risk(self.grpc_host) else "127.0.0.1"

    @property
    def secret_key_path(self) -> Path:
        """The file of the generated key."""
        return self.sqlite_path.with_name(self.sqlite_path.name + ".key")

    @property
    def audience(self) -> str | None:
        """The audience of access tokens, or None."""
        return None if self.token_audience.lower() == NO_AUDIENCE else self.token_audience

    def fallback_keys(self) -> list[str]:
        """Return the keys that are accepted and sign nothing."""
        return [key.get_secret_value() for key in self.secret_key_fallbacks]

    def accepted_keys(self) -> list[str]:
        """Return the signing key and, after it, the fallbacks. Raise SetupError if they can't be used."""
        signing, fallbacks = self.signing_key(), self.fallback_keys()
        if signing in fallbacks:
            raise SetupError(f"SECRET_KEY_FALLBACKS must not repeat the key in {self.secret_key_path}.")
        return [signing, *fallbacks]

    def signing_key(self) -> str:
        """Return SECRET_KEY or, if it is not set, the generated key. Raise SetupError if its file can't be used."""
        return self.secret_key.get_secret_value() if self.secret_key else load_or_create_key(self.secret_key_path)


def _is_given(info: ValidationInfo, field: str) -> bool:
    """Return whether an earlier field has a value, valid or not. Invalid values are missing from the data."""
    return bool(info.data.get(field, True))


def _unmap_ipv4(network: IPvAnyNetwork) -> IPvAnyNetwork:
    """Return a network of IPv4-mapped addresses (`::ffff:10.0.0.0/104`) as IPv4."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return network if mapped is None else ipaddress.IPv4Network((mapped, max(0, network.prefixlen - 96)))


def clear_text_risk(host: str) -> str:
    """Return why a server without TLS must not listen on this host; empty for loopback addresses."""
    try:
        addresses = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return "can't be resolved, so it may be a public address."
    if all(ipaddress.ip_address(address[0]).is_loopback for *_, address in addresses):
        return ""
    return "is not a loopback address, so without TLS passwords and tokens would cross the network unencrypted."
