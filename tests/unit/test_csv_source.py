"""Reading `users.csv` and `user_credentials.csv`."""

from pathlib import Path

import pytest

from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.migration.csv_source import read_folder
from killrvideo_grpc.migration.rows import RefusedRow
from tests.support.migration import killrvideo_rows, write_csv

USERS = "userid,created_date,email,firstname,lastname,account_status,last_login_date\n"
CREDENTIALS = "email,password,userid,account_locked\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "users.csv").write_text(f'{USERS}1,2024-01-01,a@x.org,"Ann, ""A""\nB",Lee,active,\n')
    (tmp_path / "user_credentials.csv").write_text(f"{CREDENTIALS}a@x.org,planted,1,true\n")
    return tmp_path


def test_reads_quoted_fields_and_empty_ones(folder: Path) -> None:
    source, refused = read_folder(folder)
    (user,), (credential,) = source.users, source.credentials
    assert (user.user_id, user.first_name, user.last_login, user.where) == (
        "1",
        'Ann, "A"\nB',
        None,
        "users.csv line 3",
    )
    assert (credential.email, credential.password, credential.locked) == ("a@x.org", "planted", "true")
    assert not source.has_roles
    assert refused == []
    assert "planted" not in repr(source)


def test_reads_any_order_of_columns_a_byte_order_mark_and_windows_lines(folder: Path) -> None:
    text = "\ufeffaccount_locked,extra,userid,password,email\r\nfalse,x,1,p,a@x.org\r\n\r\n"
    (folder / "user_credentials.csv").write_bytes(text.encode())
    (credential,) = read_folder(folder)[0].credentials
    assert (credential.email, credential.locked) == ("a@x.org", "false")


def test_reads_150(tmp_path: Path) -> None:
    source, refused = read_folder(write_csv(tmp_path, *killrvideo_rows()))
    assert (len(source.users), len(source.credentials), refused) == (150, 150, [])


@pytest.mark.parametrize("row", ["1,\0,3", "1,2,3,4,5,6,7,planted"])
def test_a_row_with_missing_or_additional_fields_is_reported(folder: Path, row: str) -> None:
    (folder / "users.csv").write_text(f"{USERS}{row}\n1,2024-01-01,a@x.org,Ann,Lee,active,\n")
    source, refused = read_folder(folder)
    assert len(source.users) == 1
    assert refused == [RefusedRow("users.csv line 2", f"it has {row.count(',') + 1} fields instead of 7")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column userid, created_date"),
        (USERS.replace("email,", "").encode(), "has no column email in its first line"),
        (USERS.encode() + b'1,2024-01-01,"planted', "is no CSV: line 2"),
        (USERS.encode() + b'1,"a"planted,', "is no CSV: line 2"),
        (USERS.encode() + b"1," + b"x" * 200_000, "is no CSV: line 2"),
        (USERS.encode() + "1,Zoë".encode("latin-1"), "is not UTF-8: line 2"),
        (USERS.encode("utf-16"), "is not UTF-8: line 1"),
    ],
)
def test_a_broken_file_is_one_message(folder: Path, content: bytes, message: str) -> None:
    (folder / "users.csv").write_bytes(content)
    with pytest.raises(SetupError, match=message) as raised:
        read_folder(folder)
    assert "planted" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_a_missing_folder(folder: Path) -> None:
    (folder / "user_credentials.csv").unlink()
    with pytest.raises(SetupError, match=r"user_credentials\.csv can't be read: No such file"):
        read_folder(folder)
    with pytest.raises(SetupError, match=r"users\.csv can't be read"):
        read_folder(folder / "nowhere")
