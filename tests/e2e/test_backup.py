"""Runs the commands of docs/backup.md verbatim, on a running service."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import grpc
from killrvideo.user.v1.user_service_pb2 import ListSessionsRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

from tests.e2e.callers import log_in
from tests.support.accounts import an_address
from tests.support.calls import registration
from tests.support.process import running

DOCS = Path(__file__).parents[2] / "docs" / "backup.md"


def commands() -> list[str]:
    """Return the two scripts: backup and restore."""
    return [
        script.replace(".venv/bin/python", sys.executable)
        for script in re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    ]


def test_a_backup_that_fails_keeps_the_last_one(tmp_path: Path) -> None:
    """A limit of the size of files makes it fail as a full disk does: an incomplete file is left."""
    backup, _ = commands()
    for folder in ("data", "backup"):
        tmp_path.joinpath(folder).mkdir()
    connection = sqlite3.connect(tmp_path / "data" / "killrvideo.db")
    with connection:
        connection.execute("CREATE TABLE filler AS SELECT randomblob(100000)")
    connection.close()
    (tmp_path / "data" / "killrvideo.db.key").touch()
    last = tmp_path / "backup" / "killrvideo.db"
    last.write_text("the last one")
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 20; {backup}"], cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True
    )
    assert "Error" in done.stderr
    assert last.read_text() == "the last one"


def test_a_backup_under_load_can_be_restored(tmp_path: Path) -> None:
    backup, restore = commands()
    data = tmp_path / "data"
    settings = {"SQLITE_PATH": str(data / "killrvideo.db"), "SECRET_KEY": ""}
    email, done, registered = an_address(), Event(), list[str]()
    with running(tmp_path, **settings) as service, grpc.insecure_channel(service.target) as channel:
        stub = UserServiceStub(channel)
        stub.Register(registration(email))
        login = log_in(stub, email)

        def register() -> None:
            while not done.is_set():
                registered.append(stub.Register(registration(an_address())).user_id)

        load = Thread(target=register)
        load.start()
        subprocess.run(["sh", "-e", "-c", backup], cwd=tmp_path, check=True, timeout=60)
        done.set()
        load.join()
        late = an_address()
        stub.Register(registration(late))
        assert service.stop() == 0
    assert registered
    data.joinpath("killrvideo.db").write_bytes(b"broken")
    data.joinpath("killrvideo.db.key").unlink()
    subprocess.run(["sh", "-e", "-c", restore], cwd=tmp_path, check=True, timeout=60)
    assert (data / "killrvideo.db").stat().st_mode & 0o777 == 0o600
    with running(tmp_path, **settings) as service, grpc.insecure_channel(service.target) as channel:
        stub = UserServiceStub(channel)
        assert log_in(stub, email).user.email == email
        metadata = (("authorization", f"Bearer {login.token}"),)
        assert stub.ListSessions(ListSessionsRequest(), metadata=metadata).sessions  # the old token, and the old key
        assert stub.Register(registration(late)).user_id  # it was registered after the backup
        connection = sqlite3.connect(data / "killrvideo.db")
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
