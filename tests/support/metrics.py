"""Reads what a running service tells Prometheus."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Scraped:
    """What one scrape answered."""

    def __init__(self, port: int) -> None:
        # Without TLS, for which httpx would read all certificates that the machine trusts, at each scrape.
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, verify=False)
        answer.raise_for_status()
        self.text = answer.text
        families = text_string_to_metric_families(answer.text)
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Returns the sum of all samples with this name and these labels."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"killrvideo_{name}" and labels.items() <= sample.labels.items()
        )
