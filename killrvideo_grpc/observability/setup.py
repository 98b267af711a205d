"""Metrics and traces, if the settings enable them. Otherwise neither is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.domain.instrumentation import UNOBSERVED, Observer, Observers
from killrvideo_grpc.rpc.interceptors.chain import Interceptor

if TYPE_CHECKING:
    from killrvideo_grpc.observability.metrics import Metrics
    from killrvideo_grpc.observability.tracing import Traces


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Metrics and traces; each is None if it is disabled."""

    metrics: "Metrics | None" = None
    traces: "Traces | None" = None

    @property
    def observer(self) -> Observer:
        """The observer to pass to everything that reports to one."""
        observers: list[Observer] = [observer for observer in (self.traces, self.metrics) if observer]
        return (observers or [UNOBSERVED])[0] if len(observers) < 2 else Observers(observers)

    @property
    def interceptors(self) -> Sequence[Interceptor]:
        """The interceptors around every call. Traces are outermost, so that a span covers its whole call."""
        return [interceptor for interceptor in (self.traces, self.metrics) if interceptor]

    def start(self) -> None:
        """Starts answering scrapes. Raises SetupError."""
        if self.metrics:
            self.metrics.start()

    async def stop(self) -> None:
        """Stops both, and sends the remaining traces."""
        if self.metrics:
            await self.metrics.stop()
        if self.traces:
            await self.traces.stop()


UNWATCHED = Telemetry()


def open_telemetry(settings: Settings) -> Telemetry:
    """Returns what the settings enable. Raises SetupError if traces are enabled but not installed."""
    metrics, traces = None, None
    if settings.metrics_port:
        from killrvideo_grpc.observability.metrics import Metrics

        metrics = Metrics(settings.store, settings.metrics_host, settings.metrics_port)
    if settings.otel_exporter_otlp_endpoint:
        try:
            from killrvideo_grpc.observability.tracing import Traces, otlp_processor
        except ModuleNotFoundError:
            raise SetupError(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed."
                " Install it with: pip install 'killrvideo-grpc[otel]'"
            ) from None
        traces = Traces(otlp_processor(settings.otel_exporter_otlp_endpoint))
    return Telemetry(metrics, traces)
