"""Figures of the controller for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest


class Metrics:
    """One registry per process; `render` is the page."""

    def __init__(self, prefix: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconciles = Counter(f"{prefix}_reconciles", "Reconciles by result", ["result"], registry=self.registry)
        self.seconds = Histogram(f"{prefix}_reconcile_seconds", "Time of a reconcile", registry=self.registry)
        self.writes = Counter(
            f"{prefix}_writes", "Writes to the API by verb and kind", ["verb", "kind"], registry=self.registry
        )
        self.depth = Gauge(f"{prefix}_queue_depth", "Keys ready to be worked on", registry=self.registry)
        self.objects = Gauge(f"{prefix}_store_objects", "Objects kept", registry=self.registry)
        self.leading = Gauge(f"{prefix}_leading", "1 while this process may write", registry=self.registry)

    def watch(self, depth: Callable[[], float], objects: Callable[[], float], leading: Callable[[], float]) -> None:
        """Read the gauges from these functions at scrape time."""
        self.depth.set_function(depth)
        self.objects.set_function(objects)
        self.leading.set_function(leading)

    def reconciled(self, seconds: float, error: BaseException | None) -> None:
        """Count one reconcile."""
        self.reconciles.labels(type(error).__name__ if error else "ok").inc()
        self.seconds.observe(seconds)

    def render(self) -> bytes:
        """The text exposition."""
        return generate_latest(self.registry)
