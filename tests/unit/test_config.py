"""The settings: .env files, defaults, refused values, and the signing key that is made if none is set."""

import re
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from killrvideo_grpc.config.loading import load_settings
from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.config.web_settings import WebSettings
from killrvideo_grpc.domain.errors import SetupError
from tests.support.settings import KEY, settings_in

EXAMPLE = Path(__file__).parents[2] / ".env.example"
TLS = Path(__file__).parents[1] / "support" / "tls"


def test_the_example_names_every_setting_and_no_other() -> None:
    named = re.findall(r"^([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(name.upper() for name in WebSettings.model_fields)


def test_the_example_holds_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    defaults = load_settings(WebSettings)
    (tmp_path / ".env").write_text(EXAMPLE.read_text())
    assert load_settings(WebSettings) == defaults


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("GRPC_PORT=1\nPROJECT_NAME=File\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("GRPC_PORT", "2")
    assert (load_settings(Settings).grpc_port, load_settings(Settings).project_name) == (2, "File")


def test_one_message_names_all_that_is_wrong_and_shows_no_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {"SECRET_KEY": "planted-short", "GRPC_PORT": "planted", "STORE": "planted", "TLS_KEY_FILE": "planted"}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SetupError) as caught:
        load_settings(Settings)
    assert all(name in str(caught.value) for name in wrong)
    assert "planted" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('SECRET_KEY="open\n', 1),
        ("# fine\nSTORE=sqlite\n\nSECRET_KEY='open\nGRPC_PORT=1\n", 4),
        ('PROJECT_NAME="open\nSECRET_KEY="planted"\n', 1),
        ('PROJECT_NAME="swallows\nSECRET_KEY="\n', 1),
        ('SOMETHING_ELSE="swallows\nexport SECRET_KEY=planted\n"\n', 1),
        ("SECRET_KEY=planted\nexport secret_key\n", 2),
        ("STORE=sqlite\nSECRET_KEY planted\n", 2),
        ("STORE=sqlite\nSECRET_KEY:planted\n", 2),
    ],
)
def test_a_broken_file_names_its_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, line: int) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(text)
    with pytest.raises(SetupError, match=rf"\.env .*line {line}\b") as caught:
        load_settings(Settings)
    assert "planted" not in str(caught.value)


def test_env_files_may_contain_other_programs_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        '\ufeff# "\nCERTIFICATE="-----BEGIN\nabc=\n-----END"\nexport PROJECT_NAME="Mine" # it\'s\nexport PATH\n'
    )
    assert load_settings(Settings).project_name == "Mine"


def test_a_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").mkdir()
    with pytest.raises(SetupError, match=r"\.env .*Is a directory"):
        load_settings(Settings)
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env").symlink_to("nowhere")
    with pytest.raises(SetupError, match=r"\.env .*No such file"):
        load_settings(Settings)


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
@pytest.mark.parametrize("name", ["GRPC_PORT", "HTTP_PORT", "METRICS_PORT", "grpc_port"])
def test_addresses_that_kubernetes_sets_are_no_ports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, f"{scheme}://10.96.0.12:50051")
    assert load_settings(WebSettings) == WebSettings()
    (tmp_path / ".env").write_text(f"{name}=4711\n")
    assert getattr(load_settings(WebSettings), name.lower()) == 4711


@pytest.mark.parametrize(
    ("url", "port"), [("localhost:9000", 8080), ("http://siblings:9000/api", 8080), ("http://localhost:9000", 9000)]
)
def test_siblings_url_must_be_an_address_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, port: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HTTP_PORT", str(port))
    monkeypatch.setenv("SIBLINGS_URL", "http://siblings:9000")
    assert load_settings(WebSettings).siblings == ("siblings", 9000)
    monkeypatch.setenv("SIBLINGS_URL", url)
    with pytest.raises(SetupError, match="SIBLINGS_URL: "):
        load_settings(WebSettings)


def test_a_port_in_the_file_is_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("GRPC_PORT=tcp://10.96.0.12:50051\n")
    with pytest.raises(SetupError, match="GRPC_PORT"):
        load_settings(Settings)


@pytest.mark.parametrize("path", [" ", "\t\n", ":memory:", " :memory: "])
def test_sqlite_path_must_be_a_file(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValidationError, match="path of a file"):
        settings_in(tmp_path, sqlite_path=path)


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(TLS.parent)
    (tmp_path / "tls").symlink_to(TLS)
    files = {"TLS_CERT_FILE": "~/tls/certificate.pem", "TLS_KEY_FILE": "~/tls/key.pem"}
    for name, value in ({"SQLITE_PATH": " ~/kv/a.db\n", "TLS_CLIENT_CA_FILE": "~/tls/certificate.pem"} | files).items():
        monkeypatch.setenv(name, value)
    settings = load_settings(Settings)
    assert settings.sqlite_path == tmp_path / "kv" / "a.db"
    assert settings.tls_cert_file == settings.tls_client_ca_file == tmp_path / "tls" / "certificate.pem"
    assert settings.tls_key_file == tmp_path / "tls" / "key.pem"


def test_paths_stay_relative(tmp_path: Path) -> None:
    assert settings_in(tmp_path, sqlite_path="data/a~b.db").sqlite_path == Path("data/a~b.db")


def test_a_tilde_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="a user without a home directory"):
        settings_in(tmp_path, sqlite_path="~no-such-user/a.db")


@pytest.mark.parametrize("wrong", ["TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"])
@pytest.mark.parametrize(("file", "cause"), [("nowhere.pem", "No such file"), (".", "Is a directory")])
def test_a_tls_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str, file: str, cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"TLS_CERT_FILE": "certificate.pem", "TLS_KEY_FILE": "key.pem", "TLS_CLIENT_CA_FILE": "certificate.pem"}
    for name, value in files.items():
        monkeypatch.setenv(name, file if name == wrong else str(TLS / value))
    monkeypatch.setenv("GRPC_HOST", "0.0.0.0")
    with pytest.raises(SetupError) as caught:
        load_settings(Settings)
    (line,) = str(caught.value).splitlines()[1:]
    assert line.startswith(f"  {wrong}: can't be read: {cause}")


def test_a_client_ca_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    files = {"tls_cert_file": TLS / "certificate.pem", "tls_key_file": TLS / "key.pem"}
    with pytest.raises(ValidationError, match=r"tls_client_ca_file\n.*no certificate"):
        settings_in(tmp_path, tls_client_ca_file=TLS / "key.pem", **files)
    with pytest.raises(ValidationError, match="needs TLS_CERT_FILE and TLS_KEY_FILE"):
        settings_in(tmp_path, tls_client_ca_file=TLS / "certificate.pem")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "0", "192.0.2.1", "2001:db8::1"])
def test_passwords_cross_no_network_in_the_clear(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValidationError, match="ALLOW_INSECURE=true"):
        settings_in(tmp_path, grpc_host=host)
    assert settings_in(tmp_path, grpc_host=host, allow_insecure=True).grpc_host == host.strip("[]")
    tls = {"tls_cert_file": TLS / "certificate.pem", "tls_key_file": TLS / "key.pem"}
    assert settings_in(tmp_path, grpc_host=host, **tls).grpc_host == host.strip("[]")


def test_a_host_that_cannot_be_resolved_yet_counts_as_no_loopback_address(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"can't be resolved.*ALLOW_INSECURE=true"):
        settings_in(tmp_path, grpc_host="no-such-host.invalid")


@pytest.mark.parametrize("name", ["project_name", "astra_db_api_endpoint", "astra_db_username", "token_issuer"])
def test_texts_are_on_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}\n.*control characters"):
        settings_in(tmp_path, **{name: "a\nb"})


def web_settings(folder: Path, **values: object) -> WebSettings:
    return WebSettings(**settings_in(folder).model_dump() | values)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "no-such-host.invalid"])
def test_the_edge_carries_passwords_across_no_network_in_the_clear(tmp_path: Path, host: str) -> None:
    with pytest.raises(SetupError, match=r"HTTP_HOST .*ALLOW_INSECURE=true"):
        web_settings(tmp_path, http_host=host).check_listener()
    web_settings(tmp_path, http_host=host, allow_insecure=True).check_listener()
    web_settings(tmp_path, http_host="[::1]").check_listener()


@pytest.mark.parametrize(
    ("grpc", "metrics", "named"), [(8080, None, "GRPC"), (8079, None, "GRPC"), (9000, 8079, "METRICS")]
)
def test_the_edge_needs_a_port_of_its_own(tmp_path: Path, grpc: int, metrics: int | None, named: str) -> None:
    ports = {"grpc_port": grpc, "metrics_port": metrics, "workers": 2}
    with pytest.raises(SetupError, match=f"ports of {named}_PORT"):
        web_settings(tmp_path, **ports, http_port=8080).check_listener()
    web_settings(tmp_path, **ports, http_port=9080).check_listener()


def test_the_generated_key_is_no_fallback(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, secret_key=None)
    generated = settings.signing_key()
    with pytest.raises(SetupError, match=r"SECRET_KEY_FALLBACKS must not repeat the key in .*\.key"):
        settings.model_copy(update={"secret_key_fallbacks": (SecretStr(generated),)}).accepted_keys()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "127.1", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tls(tmp_path: Path, host: str) -> None:
    assert not settings_in(tmp_path, grpc_host=host).allow_insecure


WEAK = ["k" * 31, "change-me-" * 5, "Your_Secret_Key_" * 3, "changethis" * 4, "insecure" * 8, " " * 40, "secret" * 6]


@pytest.mark.parametrize("key", WEAK)
def test_weak_keys_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValidationError, match="openssl"):
        settings_in(tmp_path, secret_key=key)


def test_a_blank_token_counts_as_missing(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="ASTRA_DB_USERNAME"):
        settings_in(tmp_path, store="astra", astra_db_api_endpoint="https://x", astra_db_application_token=" ")


OTHER_KEY = KEY[::-1]
ASTRA = {"STORE": "astra", "ASTRA_DB_API_ENDPOINT": "https://x", "ASTRA_DB_USERNAME": "cassandra"}
SECRETS = ("SECRET_KEY", "ASTRA_DB_APPLICATION_TOKEN", "ASTRA_DB_PASSWORD")


@pytest.mark.parametrize("space", ["\n", "\r\n", " ", "\t", "\u00a0"])
def test_secrets_are_trimmed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, space: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (ASTRA | dict.fromkeys(SECRETS, f"{space}{KEY}{space}")).items():
        monkeypatch.setenv(name, value)
    settings = load_settings(Settings)
    token, password = settings.astra_db_application_token, settings.astra_db_password
    assert token is not None
    assert password is not None
    assert {settings.signing_key(), token.get_secret_value(), password.get_secret_value()} == {KEY}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x07", "\x7f", "\x85"])
def test_secrets_with_control_characters_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, character: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for key, value in (ASTRA | dict.fromkeys(SECRETS, KEY) | {name: f"planted{character}{KEY}"}).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(SetupError, match=rf"  {name}: must not contain line breaks") as caught:
        load_settings(Settings)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("token", ["AstraCS:plantedé", "AstraCS:planted\u200b", "AstraCS:planted\u2013"])
def test_a_token_that_no_header_can_hold_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(ValidationError, match="only ASCII characters") as caught:
        settings_in(tmp_path, store="astra", astra_db_api_endpoint="https://x", astra_db_application_token=token)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint", ["https://b\u00fccher", "http://x:99999", "http://a..b", "http://a_b", "http://planted@x", "planted"]
)
def test_an_endpoint_that_no_request_can_reach_is_refused(tmp_path: Path, endpoint: str) -> None:
    """Imports read from it with either store."""
    for store in ("sqlite", "astra"):
        with pytest.raises(ValidationError, match="the URL of the Data API") as caught:
            settings_in(tmp_path, store=store, astra_db_api_endpoint=endpoint, astra_db_application_token="t")
        assert "planted" not in str(caught.value)


@pytest.mark.parametrize("algorithm", ["none", "RS256", "ES384", "EdDSA", "hs256", ""])
def test_no_other_algorithm_is_accepted(tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(ValidationError):
        settings_in(tmp_path, algorithm=algorithm)


def test_no_repr_shows_the_key(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert KEY not in f"{settings!r} {settings} {settings.model_dump()}"


def test_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, secret_key=None)
    key = settings.signing_key()
    assert len(key) == 64
    assert settings.signing_key() == key
    assert stat.S_IMODE(settings.secret_key_path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [settings.secret_key_path]


def test_a_kept_key_that_is_cut_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, secret_key=None)
    settings.secret_key_path.write_text("cut")
    with pytest.raises(SetupError, match="shorter than 32 bytes"):
        settings.signing_key()


def test_a_kept_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, secret_key=None)
    settings.signing_key()
    settings.secret_key_path.chmod(0o640)
    with pytest.raises(SetupError, match="chmod 600"):
        settings.signing_key()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_host_is_in_brackets(tmp_path: Path, host: str) -> None:
    assert settings_in(tmp_path, grpc_host=host).address(50051) == "[::1]:50051"


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("127.0.0.1", False, "127.0.0.1"),
        ("::1", False, "::1"),
        ("0.0.0.0", True, "0.0.0.0"),
        ("0.0.0.0", False, "127.0.0.1"),
    ],
)
def test_metrics_leave_the_machine_only_where_that_is_allowed(
    tmp_path: Path, host: str, allowed: bool, expected: str
) -> None:
    tls = {"tls_cert_file": TLS / "certificate.pem", "tls_key_file": TLS / "key.pem"}
    settings = settings_in(tmp_path, grpc_host=host, metrics_port=9464, allow_insecure=allowed, **tls)
    assert settings.metrics_host == expected


def test_each_worker_has_a_port_for_its_metrics(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, grpc_host="::1", metrics_port=9464, workers=2)
    assert settings.metrics_urls() == ["http://[::1]:9464/metrics", "http://[::1]:9465/metrics"]
    with pytest.raises(ValidationError, match="would be above 65535"):
        settings_in(tmp_path, metrics_port=65535, workers=2)
    for port in (50051, 50052, 50050):
        with pytest.raises(ValidationError, match="overlap the gRPC ports"):
            settings_in(tmp_path, grpc_port=50051, metrics_port=port, workers=2)


@pytest.mark.parametrize("endpoint", ["collector:4317", "http://user:planted@collector:4318"])
def test_a_collector_is_a_url_without_a_password(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings_in(tmp_path, otel_exporter_otlp_endpoint=endpoint)
    assert "planted" not in str(caught.value)


def test_the_last_workers_port_is_checked(tmp_path: Path) -> None:
    assert settings_in(tmp_path, grpc_port=65535, workers=1).workers == 1
    with pytest.raises(ValidationError, match="would be above 65535"):
        settings_in(tmp_path, grpc_port=65535, workers=2)


def test_trusted_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUSTED_PROXIES", " 192.0.2.1 , 10.0.0.0/8,2001:db8::/32")
    assert [str(network) for network in load_settings(Settings).trusted_proxies] == [
        *("192.0.2.1/32", "10.0.0.0/8", "2001:db8::/32")
    ]
    monkeypatch.setenv("TRUSTED_PROXIES", "")
    assert load_settings(Settings).trusted_proxies == ()
    monkeypatch.setenv("TRUSTED_PROXIES", "::ffff:10.0.0.0/104")
    assert [str(network) for network in load_settings(Settings).trusted_proxies] == ["10.0.0.0/8"]
    for wrong in (
        "planted",
        "10.0.0.1/8",
        "192.0.2.1,",
        "192.0.2.1 10.0.0.1",
        "0.0.0.0/0",
        "10.0.0.0/8,::/0",
        "::ffff:0:0/96",
    ):
        monkeypatch.setenv("TRUSTED_PROXIES", wrong)
        with pytest.raises(SetupError, match="TRUSTED_PROXIES") as caught:
            load_settings(Settings)
        assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("fallbacks", "message"),
    [
        ("short-planted", "key 1 must be at least 32 bytes"),
        (f"{OTHER_KEY},", "key 2 must be at least 32 bytes"),
        (f"{OTHER_KEY}, {'planted0' * 8}", "key 2 is easy to guess"),
        (KEY, "must not repeat a key or SECRET_KEY"),
        (f"{OTHER_KEY},{OTHER_KEY}", "must not repeat a key or SECRET_KEY"),
        (f"{OTHER_KEY}\x07planted", "must not contain line breaks or other control"),
    ],
)
def test_fallbacks_are_checked_like_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fallbacks: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY", KEY)
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", fallbacks)
    with pytest.raises(SetupError, match=rf"  SECRET_KEY_FALLBACKS.*: {message}") as caught:
        load_settings(Settings)
    assert not any(secret in str(caught.value) for secret in ("planted", KEY, OTHER_KEY))


def test_fallbacks_are_separated_by_commas_and_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", f"{OTHER_KEY}, {KEY}")
    settings = load_settings(Settings)
    assert settings.fallback_keys() == [OTHER_KEY, KEY]
    assert not any(key in f"{settings!r} {settings} {settings.model_dump()}" for key in (OTHER_KEY, KEY))


def test_a_key_with_a_comma_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="must not contain a comma"):
        settings_in(tmp_path, secret_key=f"{KEY},{OTHER_KEY}")


@pytest.mark.parametrize(("given", "audience"), [("none", None), ("NONE", None), ("mine", "mine")])
def test_the_audience_may_be_none(tmp_path: Path, given: str, audience: str | None) -> None:
    assert settings_in(tmp_path, token_audience=given).audience == audience
