"""The key that tokens are signed with: what may be one, and the file that keeps the one made when none is set."""

import os
import secrets
from itertools import pairwise
from pathlib import Path

MIN_KEY_BYTES = 32
ADVICE = "make one with: openssl rand -hex 32"

# What examples and tutorials put where a key belongs, lower case and without separators. Whoever reads them knows it.
PLACEHOLDERS = (
    *("changeme", "changethis", "replaceme", "replacethis", "yoursecretkey", "supersecret", "insecure"),
    # jwt.io
    *("your256bitsecret", "your384bitsecret", "your512bitsecret", "secretatleast", "secretthatisatleast"),
    # The tutorials of FastAPI, Flask, bezkoder's Spring Boot, and other Spring Boot tutorials that many copied from
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
# The library counts no further than 2^64. A random key of 32 characters, digits alone too, always gets there.
MIN_GUESSES = 10**19
RANDOM_KEY_CHARACTERS = 43  # 32 bytes as base64; as hexadecimal digits they are 64
MAX_ESTIMATED = 72  # characters; estimating takes time that grows with their square


class UnusableKey(Exception):
    """The key that is kept in a file can't be used. The text is for the operator, and shows no key."""


def check_signing_key(key: str) -> None:
    """Raises ValueError, with the cause and what to do, when others may know or guess the key."""
    bare = key.lower().translate(str.maketrans("", "", "-_. "))
    if any(placeholder in bare for placeholder in PLACEHOLDERS):
        raise ValueError(f"is an example's and no secret; {ADVICE}")
    if "-----BEGIN" in key or key.startswith("ssh-"):
        raise ValueError("is a key pair's; tokens are signed with a shared secret: openssl rand -hex 32")
    if len(key.encode()) < MIN_KEY_BYTES:
        raise ValueError(f"must have at least {MIN_KEY_BYTES} bytes; {ADVICE}")
    if not _looks_random(key) and _guesses(key) < MIN_GUESSES:
        raise ValueError(f"can be guessed, for it repeats itself or follows a pattern; {ADVICE}")


def _looks_random(key: str) -> bool:
    """Says whether a long key alternates often between digits, small and capital letters, and repeats nothing.

    Nearly all random keys do. The estimate takes 20 ms, and 8 MB that the process keeps, so they are spared it.
    """
    kinds = [(character.isdigit(), character.isupper()) for character in key]
    changes = sum(before != after for before, after in pairwise(kinds))
    triples = {key[start : start + 3] for start in range(len(key) - 2)}
    return len(key) >= RANDOM_KEY_CHARACTERS and changes > len(key) / 4 and len(triples) > len(key) * 0.9


def _guesses(key: str) -> int:
    from zxcvbn_rs_py import zxcvbn

    return zxcvbn(key[:MAX_ESTIMATED]).guesses


def kept_signing_key(path: Path) -> str:
    """Returns the key kept in a file; makes a random one, readable by its owner only, where there is no such file.

    Raises UnusableKey when the file can't be read or made, can be read by others, or holds too short a key.
    """
    try:
        if not path.exists():
            _keep_new_key(path)
        key = path.read_text().strip()
        is_open = path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not text"
        raise UnusableKey(f"The key in {path} can't be read or made: {cause}. Set SECRET_KEY instead.") from None
    if len(key.encode()) < MIN_KEY_BYTES:
        raise UnusableKey(f"The key in {path} is shorter than {MIN_KEY_BYTES} bytes. Delete it to get a new one.")
    if is_open:
        raise UnusableKey(f"The key in {path} can be read by others. Make it private: chmod 600 {path}")
    return key


def _keep_new_key(path: Path) -> None:
    # Written whole under another name, then linked: of several processes one wins, and none reads half a key.
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
