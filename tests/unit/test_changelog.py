"""The changelog follows Keep a Changelog, and agrees with the version of the package."""

import re
import tomllib
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADING = re.compile(r"^## \[(?P<version>[^]]+)\](?: - (?P<date>\S+))?$")


def releases() -> list[tuple[str, str | None]]:
    """Return the versions that have a section in the changelog, with their dates, in its order."""
    lines = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    matches = [HEADING.match(line) for line in lines]
    assert all(matches), f"a section is not called '## [version] - date': {lines}"
    return [(match["version"], match["date"]) for match in matches if match]


def test_the_latest_release_is_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert [name for name, _ in releases()][:2] == ["Unreleased", version]


def test_releases_are_dated_from_the_newest_to_the_oldest() -> None:
    (_, undated), *released = releases()
    assert undated is None
    dates = [date.fromisoformat(day or "missing") for _, day in released]
    assert dates == sorted(dates, reverse=True)
