"""The key that signs tokens: checks SECRET_KEY, or generates a key and keeps it in a file if none is set."""

import os
import secrets
from itertools import pairwise
from pathlib import Path

from killrvideo_grpc.domain.errors import SetupError

MIN_KEY_BYTES = 32
ADVICE = "generate one with: openssl rand -hex 32"

# Keys from examples and tutorials, which attackers know too, in lower case and without separators.
PLACEHOLDERS = (
    *("changeme", "changethis", "replaceme", "replacethis", "yoursecretkey", "supersecret", "insecure"),
    # jwt.io
    *("your256bitsecret", "your384bitsecret", "your512bitsecret", "secretatleast", "secretthatisatleast"),
    # Tutorials: FastAPI's, Flask's, bezkoder's for Spring Boot, and other widely copied ones for Spring Boot
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
# zxcvbn's estimates end at 2^64. A random key of 32 characters always reaches that, even if it only contains digits.
MIN_GUESSES = 10**19
RANDOM_KEY_CHARACTERS = 43  # 32 bytes as base64; as hexadecimal digits they are 64
MAX_ESTIMATED = 72  # characters; the time that zxcvbn takes grows with the square of the length


def check_signing_key(key: str) -> None:
    """Raises ValueError, with the cause and what to do, if the key is well known, too short or easy to guess."""
    bare = key.lower().translate(str.maketrans("", "", "-_. "))
    if any(placeholder in bare for placeholder in PLACEHOLDERS):
        raise ValueError(f"is a well-known example key; {ADVICE}")
    if "-----BEGIN" in key or key.startswith("ssh-"):
        raise ValueError(f"is part of a key pair, but tokens are signed with a shared secret; {ADVICE}")
    if len(key.encode()) < MIN_KEY_BYTES:
        raise ValueError(f"must be at least {MIN_KEY_BYTES} bytes long; {ADVICE}")
    if not _looks_random(key) and _guesses(key) < MIN_GUESSES:
        raise ValueError(f"is easy to guess, because it repeats itself or follows a pattern; {ADVICE}")


def _looks_random(key: str) -> bool:
    """Returns whether a long key often switches between digits, lower and upper case, and repeats nothing.

    Nearly all random keys do, and can skip the estimate by zxcvbn, which takes 20 ms and 8 MB of memory for good.
    """
    kinds = [(character.isdigit(), character.isupper()) for character in key]
    changes = sum(before != after for before, after in pairwise(kinds))
    triples = {key[start : start + 3] for start in range(len(key) - 2)}
    return len(key) >= RANDOM_KEY_CHARACTERS and changes > len(key) / 4 and len(triples) > len(key) * 0.9


def _guesses(key: str) -> int:
    from zxcvbn_rs_py import zxcvbn

    return zxcvbn(key[:MAX_ESTIMATED]).guesses


def load_or_create_key(path: Path) -> str:
    """Returns the key in the file. If the file is missing, creates it with a random key, readable only by its owner.

    Raises SetupError if the file can't be read or created, can be read by others, or contains too short a key.
    """
    try:
        if not path.exists():
            _keep_new_key(path)
        key = path.read_text().strip()
        is_open = path.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not text"
        raise SetupError(f"The key file {path} can't be read or created: {cause}. Set SECRET_KEY instead.") from None
    if len(key.encode()) < MIN_KEY_BYTES:
        raise SetupError(f"The key in {path} is shorter than {MIN_KEY_BYTES} bytes. Delete it to get a new one.")
    if is_open:
        raise SetupError(f"The key in {path} can be read by others. Make it private: chmod 600 {path}")
    return key


def _keep_new_key(path: Path) -> None:
    # The key is written to a draft, which is then linked to its path. If several processes do this at once, one of the
    # links succeeds, and no process can read a partly written key.
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
