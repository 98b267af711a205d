"""Metrics and traces, each imported only if the settings enable it."""

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation


def open_instrumentation(settings: Settings) -> Instrumentation:
    """Return what the settings enable. Raise SetupError if traces are enabled but not installed."""
    instrumentation = NOOP
    if settings.metrics_port:
        from killrvideo_grpc.observability.metrics import Metrics

        instrumentation = Metrics(settings.store, settings.metrics_host, settings.metrics_port)
    if settings.otel_exporter_otlp_endpoint:
        try:
            from killrvideo_grpc.observability.tracing import Tracing, otlp_processor
        except ModuleNotFoundError:
            raise SetupError(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed."
                " Install it with: pip install 'killrvideo-grpc[otel]'"
            ) from None
        instrumentation = Tracing(otlp_processor(settings.otel_exporter_otlp_endpoint), instrumentation)
    return instrumentation
