"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class ServerMetrics:
    """Counters of one server, in a registry of its own: two servers in one process do not mix."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.answers = Counter("onedp_answers", "Requests answered with actions", ["policy"], registry=registry)
        self.errors = Counter("onedp_errors", "Messages answered with an error", ["reason"], registry=registry)
        self.connections = Gauge("onedp_connections", "Clients connected", registry=registry)
        self.refused = Counter("onedp_refused_connections", "Connections refused", ["reason"], registry=registry)
        self.cut_off = Counter("onedp_slow_readers", "Clients cut off that did not take answers", registry=registry)
        self.queue = Histogram(
            "onedp_queue_seconds", "Wait for the policy", ["policy"], buckets=SECONDS, registry=registry
        )
        self.infer = Histogram(
            "onedp_infer_seconds", "Pass of the policy", ["policy"], buckets=SECONDS, registry=registry
        )
        self.batch = Histogram(
            "onedp_batch_rows", "Observations in a pass", ["policy"], buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
