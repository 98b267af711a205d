"""Requests that can't be sent, which no retry helps."""

import asyncio
from dataclasses import replace

import pytest

from killrvideo_grpc.domain.errors import UnusableStore
from killrvideo_grpc.stores.data_api.client import DataApi
from tests.support.keyspaces import prepared_fake


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"token": "planted\n"}, "LocalProtocolError"),
        ({"token": "planted\0"}, "LocalProtocolError"),
        ({"token": "planté"}, "UnicodeEncodeError"),
        ({"endpoint": "http://xn--planted-a"}, "InvalidCodepoint"),
    ],
)
def test_what_cannot_be_sent_is_no_outage(changes: dict[str, str], cause: str) -> None:
    with prepared_fake() as (server, keyspace):
        server.forget_requests()

        async def find() -> None:
            api = DataApi(replace(keyspace, **changes))  # type: ignore[arg-type] # all of them are text
            try:
                await api.find_document("-")
            finally:
                await api.close()

        with pytest.raises(UnusableStore, match=rf"can't be sent \({cause}\)") as caught:
            asyncio.run(find())
        assert server.requests == []
    assert "plant" not in str(caught.value)
