"""The installed command, run as people and scripts run it."""

import ctypes
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import grpc
import pytest
from killrvideo.user.v1.user_service_pb2 import RegisterRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.support.accounts import PASSWORD
from tests.support.forks import Fork
from tests.support.ports import free_port
from tests.support.process import BIN, COMMAND, environment, run, running
from tests.support.settings import KEY

PR_CAPBSET_DROP = 24
ROOT = Path(__file__).parents[2]
ACCOUNTS = [["accounts", *command] for command in ([], ["reset-password"], ["delete"], ["unblock"])]
ANN = RegisterRequest(email="ann@example.org", password=PASSWORD, first_name="Ann", last_name="Lee")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database that contains Ann's account."""
    folder = tmp_path_factory.mktemp("command line")
    with running(folder) as service, grpc.insecure_channel(service.target) as channel:
        UserServiceStub(channel).Register(ANN)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["roles"],
        ["roles", "assign"],
        *ACCOUNTS,
        ["accounts", "export"],
        ["accounts", "import"],
        ["config"],
        ["config", "check"],
        ["health"],
        ["services"],
        ["services", "add"],
        ["keys", "list"],
    ],
)
def test_commands_have_help(folder: Path, arguments: list[str]) -> None:
    done = run(folder, *arguments, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: killrvideo-grpc")
    assert done.stderr == ""
    assert r"\b" not in done.stdout


def test_help_shows_a_first_session_line_by_line(folder: Path) -> None:
    lines = run(folder, "--help").stdout.splitlines()
    session = lines[lines.index("  A first session:") + 1 :][:3]
    assert [line.split()[:2] for line in session] == [
        ["killrvideo-grpc", name] for name in ("serve", "roles", "config")
    ]


def test_version(folder: Path) -> None:
    assert re.fullmatch(r"killrvideo-grpc \d+\.\d+\.\d+\n", run(folder, "--version").stdout)


def test_roles_are_assigned_listed_and_revoked(folder: Path) -> None:
    def output(*arguments: str) -> str:
        done = run(folder, "roles", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert output("list", "ann@example.org") == "viewer\n"
    assert output("assign", "ANN@example.org", "moderator") == "viewer\nmoderator\n"
    assert output("assign", "ann@example.org", "moderator") == "viewer\nmoderator\n"
    assert output("list", " ann@example.org") == "viewer\nmoderator\n"
    last = run(folder, "roles", "revoke", "ann@example.org", "moderator")
    assert (last.returncode, last.stdout) == (1, "")
    assert "the last moderator" in last.stderr
    assert output("revoke", "ann@example.org", "moderator", "--force") == "viewer\n"
    assert output("revoke", "ann@example.org", "moderator") == "viewer\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["list", "nobody@example.org"], 1, "No account has this e-mail address in"),
        (["assign", "nobody@example.org", "viewer"], 1, "No account has this e-mail address in"),
        (["assign", "ann@example.org", "king"], 2, "'king' is not one of 'viewer', 'creator', 'moderator'"),
        (["assign", "ann@example.org"], 2, "Missing argument"),
        (["list", "a\x1b[2Jb"], 2, "is not an e-mail address"),
        (["list", "\udcff"], 2, "is not an e-mail address"),
        (["abolish"], 2, "No such command"),
    ],
)
def test_wrong_arguments_are_explained(folder: Path, arguments: list[str], code: int, message: str) -> None:
    done = run(folder, "roles", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["reset-password", "nobody@example.org"], 1, "No account has this e-mail address in"),
        (["unblock", "nobody@example.org"], 1, "No account has this e-mail address in"),
        (["delete", "nobody@example.org", "--reason", "r"], 1, "No account has this e-mail address or id in"),
        (["delete", "ann@example.org"], 2, "Missing option '--reason'"),
        (["delete", "ann@example.org", "--reason", " "], 2, "must have 1 to 500 characters"),
        (["delete", "ann@example.org", "--reason", "x" * 501], 2, "must have 1 to 500 characters"),
        (["delete", "ann@example.org", "--reason", "a\x1b[2Jb"], 2, "must not contain control characters"),
        (["delete", "ann@example.org", "--reason", "\udcff"], 2, "is not valid Unicode"),
        (["reset-password"], 2, "Missing argument"),
    ],
)
def test_wrong_arguments_about_accounts_are_explained(
    folder: Path, arguments: list[str], code: int, message: str
) -> None:
    done = run(folder, "accounts", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_roles_in_the_wrong_folder_make_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "roles", "list", "ann@example.org")
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no database at" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="takes root's rights away with Linux's capabilities")
def test_roles_where_the_folder_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0)
    done = subprocess.run(
        [COMMAND, "roles", "list", "ann@example.org"],
        cwd=tmp_path,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=without_root_rights,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "can't be reached: Permission denied. Run this as the user who runs the service." in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_roles_with_an_impossible_database_path(tmp_path: Path) -> None:
    done = run(tmp_path, "roles", "list", "ann@example.org", SQLITE_PATH="x" * 300)
    assert (done.returncode, done.stdout) == (1, "")
    assert "can't be reached: File name too long" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_env_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"STORE=sqlite\nPROJECT_NAME=\xff\xfe\n")
    done = run(tmp_path, "config", "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert ".env in this directory can't be read: line 2 is not UTF-8" in done.stderr


def test_config_check_shows_what_is_in_force_and_no_secret(folder: Path) -> None:
    done = run(folder, "config", "check", PROJECT_NAME="Mine")
    assert done.returncode == 0
    assert "PROJECT_NAME=Mine\n" in done.stdout
    assert "SECRET_KEY=**********\n" in done.stdout
    assert KEY not in done.stdout


def test_keys_list_makes_no_key(tmp_path: Path) -> None:
    done = run(tmp_path, "keys", "list", SECRET_KEY="")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no key at" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_keys_list_shows_the_fallbacks_too(tmp_path: Path) -> None:
    one, two = (json.loads(run(tmp_path, "keys", "list", SECRET_KEY=key).stdout)["keys"] for key in (KEY, KEY[::-1]))
    both = run(tmp_path, "keys", "list", SECRET_KEY_FALLBACKS=KEY[::-1]).stdout
    assert json.loads(both) == {"keys": [*one, *two]}
    assert (
        "**********,**********"
        in run(tmp_path, "config", "check", SECRET_KEY=KEY.upper(), SECRET_KEY_FALLBACKS=f"{KEY},{KEY[::-1]}").stdout
    )


def test_config_check_covers_every_setting_of_the_example(folder: Path) -> None:
    named = re.findall(r"^([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    done = run(folder, "config", "check", HTTP_PORT="8081")
    assert sorted(line.partition("=")[0] for line in done.stdout.splitlines()) == sorted(named)
    assert "HTTP_PORT=8081\n" in done.stdout


@pytest.mark.parametrize("command", [["config", "check"], ["roles", "list", "ann@example.org"]])
def test_ports_that_kubernetes_overwrote_are_named(folder: Path, command: list[str]) -> None:
    done = run(folder, *command, GRPC_PORT="tcp://10.96.0.12:50051", METRICS_PORT="tcp://10.96.0.13:9464")
    assert done.returncode == 0
    assert all(f"{name} " in done.stderr for name in ("GRPC_PORT", "METRICS_PORT"))
    assert "enableServiceLinks: false" in done.stderr


@pytest.mark.parametrize("changes", [{"HTTP_PORT": "abc"}, {"HTTP_PORT": "70000"}, {"HTTP_HOST": " "}])
def test_config_check_refuses_wrong_settings_of_the_edge(folder: Path, changes: dict[str, str]) -> None:
    done = run(folder, "config", "check", **changes)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"  {next(iter(changes))}: " in done.stderr


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"SECRET_KEY": "short", "GRPC_PORT": "99999", "STORE": "paper"}, ["SECRET_KEY", "GRPC_PORT", "STORE"]),
        ({"SECRET_KEY": f"{KEY}\n{KEY}"}, ["SECRET_KEY: must not contain line breaks"]),
        ({"GRPC_HOST": "203.0.113.1", "ALLOW_INSECURE": "1"}, ["203.0.113.1:0: Cannot assign requested address"]),
        ({"GRPC_HOST": "no..name"}, ["GRPC_HOST can't be resolved"]),
        ({"GRPC_HOST": "no..name", "ALLOW_INSECURE": "1"}, ["no..name:0: the address can't be used"]),
        (
            {"GRPC_HOST": "0.0.0.0", "SQLITE_PATH": " "},
            ["ALLOW_INSECURE: GRPC_HOST is not a loop", "SQLITE_PATH: must"],
        ),
        ({"SQLITE_PATH": "/proc/nowhere/killrvideo.db"}, ["/proc/nowhere/killrvideo.db: No such file or directory"]),
        ({"SQLITE_PATH": str(ROOT / "README.md")}, ["README.md: file is not a database"]),
        ({"SQLITE_PATH": ":memory:", "GRPC_PORT": "65535", "WORKERS": "2"}, ["SQLITE_PATH: must be", "WORKERS: needs"]),
        ({"TLS_CERT_FILE": "nowhere.pem"}, ["TLS needs both TLS_CERT_FILE and TLS_KEY_FILE"]),
        (
            {"WORKERS": "2", "GRPC_HOST": "203.0.113.1", "GRPC_PORT": "1", "ALLOW_INSECURE": "1"},
            ["203.0.113.1:1", "A worker could not start"],
        ),
    ],
)
def test_serve_says_why_it_cannot_start(tmp_path: Path, changes: dict[str, str], messages: list[str]) -> None:
    mode = ROOT.joinpath("README.md").stat().st_mode
    done = run(tmp_path, "serve", **changes)
    assert ROOT.joinpath("README.md").stat().st_mode == mode  # files of others are not changed
    assert (done.returncode, done.stdout) == (1, "")
    assert all(message in done.stderr for message in messages), done.stderr
    assert "Traceback" not in done.stderr
    assert "short" not in done.stderr.replace("shorter", "")


def test_a_file_of_a_newer_version_stops_the_start(tmp_path: Path) -> None:
    assert run(tmp_path, "roles", "list", "ann@example.org").returncode == 1  # there is no file yet
    connection = sqlite3.connect(tmp_path / "killrvideo.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    done = run(tmp_path, "serve")
    assert done.returncode == 1
    assert "schema version 7" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "output", "cause"),
    [
        ("config check", ">/dev/full", "No space left"),
        ("config check", "1</dev/null", "Bad file descriptor"),
        ("serve --help", ">/dev/full", "No space left"),
    ],
)
def test_unwritable_output_is_one_error_line(tmp_path: Path, arguments: str, output: str, cause: str) -> None:
    done = shell(tmp_path, f"{COMMAND} {arguments} {output}")
    assert done.returncode == 1
    assert f"Can't write to standard output: {cause}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_closed_output_changes_no_exit_code(tmp_path: Path) -> None:
    assert shell(tmp_path, f"{COMMAND} config check >&-").returncode == 0
    assert shell(tmp_path, f"{COMMAND} config check >&-", GRPC_PORT="none").returncode == 1
    assert shell(tmp_path, f"{COMMAND} config check 2>&- >/dev/full").returncode == 1


@pytest.mark.parametrize("arguments", ["services add svc --grant check_tokens", f"accounts reset-password {ANN.email}"])
def test_what_is_printed_once_is_not_made_if_the_output_is_closed(folder: Path, arguments: str) -> None:
    done = shell(folder, f"{COMMAND} {arguments} >&-")
    assert (done.returncode, done.stderr.count("Standard output is closed")) == (1, 1)
    assert run(folder, "services", "list").stdout == ""


def test_accounts_are_exported_even_if_standard_error_is_closed(folder: Path, tmp_path: Path) -> None:
    assert shell(folder, f"{COMMAND} accounts export {tmp_path}/accounts.jsonl 2>&-").returncode == 0
    assert ANN.email in (tmp_path / "accounts.jsonl").read_text()


def test_no_plugin_of_pydantic_sees_the_settings(folder: Path, tmp_path: Path) -> None:
    package = tmp_path / "spy-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: spy\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[pydantic]\nspy = spy\n")
    (tmp_path / "spy.py").write_text("raise SystemExit('the plugin was loaded')\n")
    done = shell(folder, f"{COMMAND} config check", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_login_name_may_contain_anything(folder: Path) -> None:
    done = shell(folder, f"LOGNAME=$(printf 'a\\377\\n'){'x' * 100} {COMMAND} roles assign {ANN.email} creator")
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(folder / "killrvideo.db") as connection:
        actors = [actor for (actor,) in connection.execute("SELECT actor FROM events ORDER BY at")]
    assert actors[-1] == f"cli:a?{'x' * 62}"


def test_it_serves_even_if_its_output_is_closed(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    arguments = ["sh", "-c", f"exec {COMMAND} serve >&-"]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            arguments, cwd=tmp_path, env=environment(tmp_path, GRPC_PORT=str(port)), stderr=errors
        ) as process,
    ):
        serves_and_stops(process, port, log)


def test_it_serves_even_if_its_output_is_full(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    process = Fork(tmp_path, ["serve"], environment(tmp_path, GRPC_PORT=str(port)), Path("/dev/full"), log)
    serves_and_stops(process, port, log)


def serves_and_stops(process: "Fork | subprocess.Popen[bytes]", port: int, log: Path) -> None:
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert UserServiceStub(channel).Register(ANN, wait_for_ready=True, timeout=30).user_id
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
    assert "stopped" in log.read_text()
    assert "Traceback" not in log.read_text()


def shell(folder: Path, line: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=environment(folder, **changes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [["serve"], ["schema", "check"]])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ASTRA_DB_APPLICATION_TOKEN": "AstraCS:planted\x07x"}, "ASTRA_DB_APPLICATION_TOKEN: must not contain"),
        ({"ASTRA_DB_APPLICATION_TOKEN": "AstraCS:planté"}, "ASTRA_DB_APPLICATION_TOKEN: must contain only ASCII"),
        ({"SSL_CERT_FILE": "/nowhere"}, "Check SSL_CERT_FILE"),
    ],
)
def test_what_keeps_a_request_from_being_sent_ends_the_command(
    tmp_path: Path, command: list[str], changes: dict[str, str], message: str
) -> None:
    astra = {"STORE": "astra", "ASTRA_DB_API_ENDPOINT": "https://127.0.0.1:9", "ASTRA_DB_APPLICATION_TOKEN": "t"}
    done = run(tmp_path, *command, **astra | changes)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "plant" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "needed", "limits"),
    [
        ("serve", 1280, "ulimit -Sn 200"),
        ("serve", 1280, "ulimit -n 200"),
        ("edge web", 10256, "ulimit -n 200"),
    ],
)
def test_a_low_limit_of_open_files_is_raised_or_explained(
    tmp_path: Path, command: str, needed: int, limits: str
) -> None:
    """The start fails later, because of the address."""
    address = {"GRPC_HOST": "203.0.113.1", "HTTP_HOST": "203.0.113.1", "ALLOW_INSECURE": "1"}
    done = shell(tmp_path, f"{limits}; exec {COMMAND} {command}", **address)
    assert "Can't listen on 203.0.113.1" in done.stderr
    assert (f"LimitNOFILE={needed}" in done.stderr) == (limits == "ulimit -n 200")


def without_root_rights() -> None:
    """Make file permissions apply to root too: the next program lacks CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def test_a_taken_port_stops_the_start(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        done = run(tmp_path, "serve", GRPC_PORT=str(service.ports[0]))
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_settings_come_from_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PROJECT_NAME=From the file\n")
    assert "PROJECT_NAME=From the file\n" in run(tmp_path, "config", "check").stdout


def test_the_wheel_is_whole_and_typed(tmp_path: Path) -> None:
    build = [str(BIN / "hatchling"), "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    assert all((site / file).exists() for file in ("killrvideo_grpc/py.typed", "killrvideo/user/py.typed"))
    modules = list(site.joinpath("killrvideo").rglob("*_pb2*.py"))
    assert modules
    assert all(module.with_suffix(".pyi").exists() for module in modules)
    script = "import killrvideo_grpc.__main__ as m, killrvideo.user.v1.user_pb2 as p; print(m.__file__, p.__file__)"
    imported = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert imported.stdout.count(str(site)) == 2
