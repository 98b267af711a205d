"""The secret key and the keys derived from it."""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from killrvideo_grpc.domain.errors import SetupError

MIN_KEY_BYTES = 32
ADVICE = "generate one with: openssl rand -hex 32"

# Keys from examples and tutorials, in lower case and without separators.
PLACEHOLDERS = (
    *("changeme", "changethis", "replaceme", "replacethis", "yoursecretkey", "supersecret", "insecure"),
    # jwt.io
    *("your256bitsecret", "your384bitsecret", "your512bitsecret", "secretatleast", "secretthatisatleast"),
    # Tutorials for FastAPI, Flask and Spring Boot
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    "bezkoder",
    "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
    "404e635266556a586e3272357538782f413f4428472b4b6250645367566b5970",
    "413f4428472b4b6250655368566d5970337336763979244226452948404d6351",
    "357538782f413f4428472b4b6250655368566d597033733676397924422645",
    # RFC 7515, appendix A.1
    "aym1sysppbydfgzld3umj1qzkobwvmkoqqestjqlrt1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
)
# zxcvbn's estimates end at 2^64, which a random key of 32 characters always reaches.
MIN_GUESSES = 10**19
MAX_ESTIMATED = 72  # characters; the time zxcvbn takes grows with the square of the length


def check_secret_key(key: str) -> None:
    """Raise ValueError, with the cause and what to do, if the key is well known, too short or easy to guess."""
    from zxcvbn_rs_py import zxcvbn

    if "," in key:
        raise ValueError(f"must not contain a comma, which separates the keys in SECRET_KEY_FALLBACKS; {ADVICE}")
    bare = key.lower().translate(str.maketrans("", "", "-_. "))
    if any(placeholder in bare for placeholder in PLACEHOLDERS):
        raise ValueError(f"is a well-known example key; {ADVICE}")
    if "-----BEGIN" in key or key.startswith("ssh-"):
        raise ValueError(f"is part of a key pair, but tokens are signed with a shared secret; {ADVICE}")
    if len(key.encode()) < MIN_KEY_BYTES:
        raise ValueError(f"must be at least {MIN_KEY_BYTES} bytes long; {ADVICE}")
    if zxcvbn(key[:MAX_ESTIMATED]).guesses < MIN_GUESSES:
        raise ValueError(f"is easy to guess, because it repeats itself or follows a pattern; {ADVICE}")


def load_or_create_key(path: Path) -> str:
    """Return the key in the file. Create the file, with a random key, if it is missing.

    Raise SetupError if the file can't be used, or others can read it. Its group may read it if root owns it, as with
    PostgreSQL's keys.
    """
    try:
        if not path.exists():
            _create_key(path)
        key = path.read_text().strip()
        status = path.stat()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not text"
        raise SetupError(f"The key file {path} can't be read or created: {cause}. Set SECRET_KEY instead.") from None
    if len(key.encode()) < MIN_KEY_BYTES or "," in key:
        cause = f"is shorter than {MIN_KEY_BYTES} bytes, or contains a comma"
        raise SetupError(f"The key in {path} {cause}. Delete it to get a new one.")
    for_others = stat.S_IRWXG | stat.S_IRWXO
    if status.st_uid == 0 and os.geteuid() != 0:
        for_others &= ~stat.S_IRGRP
    if status.st_mode & for_others:
        raise SetupError(
            f"The key in {path} can be read by others. Make it private: chmod 600 {path}. On Kubernetes, fsGroup opens"
            " it to the group at each mount: set fsGroupChangePolicy: OnRootMismatch, or SECRET_KEY from a Secret."
        )
    return key


def _create_key(path: Path) -> None:
    # Link a finished draft to the path: of several processes one succeeds, and none reads half a key.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def derived_key(secret_key: str, purpose: str) -> bytes:
    """Return the 32-byte key for a purpose, such as `page token`. No kind of token passes for another."""
    return hmac.digest(secret_key.encode(), f"killrvideo.user.v1 {purpose}".encode(), hashlib.sha256)


def keyed_digest(secret_key: str, purpose: str) -> Callable[[str], bytes]:
    """Return a function that hashes text with a derived key (HMAC-SHA-256, 32 bytes)."""
    key = derived_key(secret_key, purpose)
    return lambda text: hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
