"""What a command answers when it is not refused."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The two parts of an answer, and how many rows or documents the command touched (for the model of latency)."""

    data: dict[str, Any] | None = None
    status: dict[str, Any] | None = None
    rows: int = 1

    def body(self) -> dict[str, Any]:
        """The whole answer, as JSON is made of it."""
        parts = {"data": self.data, "status": self.status}
        return {name: part for name, part in parts.items() if part is not None}


OK = Answer(status={"ok": 1})
