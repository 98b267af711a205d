"""The revisions of the account document."""

from typing import Any

from killrvideo_grpc.stores.astra.document import with_new_revision


def test_the_last_20_revisions_are_kept() -> None:
    """A write whose answer was lost is recognised after as many writes by others."""
    document: dict[str, Any] = {"_id": "account:x", "revision": "first", "recent": []}
    revisions = []
    for _ in range(25):
        revisions.append(document["revision"])
        document = with_new_revision(document)
    assert document["recent"] == revisions[:4:-1]
    assert document["revision"] not in revisions
