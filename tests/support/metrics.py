"""Scrapes of a running service's metrics."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


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
