"""Settings for a service under test: its own folder, a cheap hash, nothing from the machine's environment."""

from pathlib import Path

from killrvideo_grpc.config.settings import Settings

KEY = "key-for-tests-qzpxvmtnwcrbydhskfjgxtnpzqwrbmlvdkshgcfnjtqwzpxrbv"
ROUNDS = 4


def settings_in(folder: Path, **changes: object) -> Settings:
    """Return settings for a store in `folder`, with `changes` by their field names."""
    values: dict[str, object] = {
        "sqlite_path": folder / "killrvideo.db",
        "secret_key": KEY,
        "bcrypt_rounds": ROUNDS,
        "grpc_port": 0,
        "store": "sqlite",
        # All tests come from one source. Those of throttling set limits of their own.
        "max_failures_per_source": 0,
        "max_registrations_per_source": 0,
    }
    return Settings.model_validate(values | changes)
