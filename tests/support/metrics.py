"""Scrapes of metrics."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from killrvideo_grpc.observability.metrics import Metrics
from tests.support.ports import free_port


class Scraped:
    """The answer to one scrape."""

    def __init__(self, port: int) -> None:
        # Without TLS, for which httpx would load all trusted certificates at each scrape.
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, verify=False)
        answer.raise_for_status()
        self.text = answer.text
        families = text_string_to_metric_families(answer.text)
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of all samples with this name and these labels."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"killrvideo_{name}" and labels.items() <= sample.labels.items()
        )


class StoreMetrics(Metrics):
    """The metrics of a store without a service."""

    def __init__(self, store: str) -> None:
        super().__init__(store, "127.0.0.1", free_port())

    async def scraped(self) -> Scraped:
        """Export the metrics for one scrape, and return it."""
        self.start_export()
        try:
            return Scraped(self._port)
        finally:
            await self.stop_export()
