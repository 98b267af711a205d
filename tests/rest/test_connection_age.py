"""Envoy's connections to the workers reach their maximum age."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx

from tests.rest.conftest import registered, web


def test_no_call_fails_when_a_connection_reaches_its_age(tmp_path: Path) -> None:
    """Connections to two workers reach it about once a second, three times each, under reads and writes."""
    with (
        web(tmp_path, WORKERS="2", MAX_CONNECTION_AGE_SECONDS="1") as edge,
        httpx.Client(verify=False, base_url=edge.url, timeout=20, trust_env=False) as client,
    ):
        account, ended = registered(client), Event()

        def call(number: int) -> Counter[int]:
            codes: Counter[int] = Counter()
            while not ended.wait(0.03) or codes.total() <= 25:
                if number % 2:
                    answer = client.get("/api/v1/users/me", headers=account.bearer)
                else:
                    answer = client.put("/api/v1/users/me", headers=account.bearer, json={"firstName": "Bea"})
                codes[answer.status_code] += 1
            return codes

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call, number) for number in range(4)]
            ended.wait(3.5)
            ended.set()
            codes = sum((each.result() for each in calls), Counter())
    assert set(codes) == {200}
    assert codes[200] > 100
