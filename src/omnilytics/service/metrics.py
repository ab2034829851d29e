"""What a server process tells Prometheus: base units, a registry of its own, bounded labels.

Labels take few values: routes are templates, never paths, and no label names a task or an owner.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from omnilytics import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STEP_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The metrics of one server process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._build()
        self.requests = self._counter(
            "http_requests", "Requests answered.", "method", "route", "status"
        )
        self.request_seconds = self._histogram(
            "http_request_seconds", "Time to answer.", _REQUEST_BUCKETS, "method", "route"
        )
        self.requests_in_progress = self._gauge("http_requests_in_progress", "Requests now.")
        self.refused = self._counter("http_requests_refused", "Refused as too many (429).", "by")
        self.submissions = self._counter("submissions_stored", "Own packages stored.")
        self.held = self._counter("held_packages_stored", "Other servers' packages stored.")
        self.locks = self._counter("locks_given", "Seeds and sets locked, once a round.", "kind")
        # Read before the steps that ended, so that a step is in one of them at least.
        self.stepping = self._gauge("round_steps_in_progress", "Steps of tasks under way.")
        self.steps = self._counter("round_steps", "Steps of tasks.", "outcome")
        self.step_seconds = self._histogram("round_step_seconds", "Time of a step.", _STEP_BUCKETS)
        self.settled = self._counter("rounds_settled", "Rounds seen settled since the start.")
        self.voided = self._counter("rounds_voided", "Rounds seen voided since the start.")
        self.tasks = self._gauge("tasks_followed", "Tasks this server takes part in.")
        self.failing = self._gauge("tasks_failing", "Tasks whose last step failed.")
        self.reachable = self._gauge("chain_reachable", "1 while the node answers rightly.")
        self.head_block = self._gauge("chain_head_block", "Number of the latest block.")
        self.head_lag = self._gauge("chain_head_lag_seconds", "Age of the latest block.")
        self.balance = self._gauge("account_balance_wei", "Ether of the server's account.")
        self.nonce = self._gauge("account_nonce", "Transactions sent, pending ones too.")
        self.gas_cost = self._gauge("account_gas_cost_wei", "Spent on gas since the start.")
        self.freed = self._counter("freed_bytes", "Bytes of files deleted as garbage.")
        self.disk_free = self._gauge("disk_free_bytes", "Free where the data folder is.")
        self.checks = self._gauge("check_passed", "1 while a readiness check passes.", "check")

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def names(self) -> set[str]:
        """Return the names of all series of this project that a query may use."""
        return {
            sample
            for family in self.registry.collect()
            if family.name.startswith("omnilytics_")
            for sample in _series(family.name, family.type)
        }

    def _build(self) -> None:
        build = self._gauge("build_info", "1, with the version.", "version")
        build.labels(version=__version__).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"omnilytics_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"omnilytics_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"omnilytics_{name}", text, labels, buckets=buckets, registry=self.registry
        )


def _series(name: str, kind: str) -> tuple[str, ...]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return tuple(name + suffix for suffix in suffixes.get(kind, ("",)))
