"""Counters and times of a server, in the text form of Prometheus.

Labels are names of served models and HTTP statuses. Nothing that a client sends becomes a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """What a server counts.

    Args:
        manifest: the bundle's manifest, for the facts that tell one model from another.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        # a registry of its own: the default one also tells about the process and its Python
        self.registry = CollectorRegistry()
        facts = ("name", "target", "precision", "verdict")
        info = Gauge("bundle_info", "The bundle that is served; always 1.", facts, registry=self.registry)
        info.labels(*(str(manifest[key]) for key in facts)).set(1)
        self.requests = Counter("bundle_requests", "Inference requests that were answered.", ["model", "status"], registry=self.registry)
        self.items = Counter("bundle_items", "Images or tensors that the model answered.", ["model"], registry=self.registry)
        self.seconds = Histogram(
            "bundle_request_seconds", "Time from the request's headers to its answer.", ["model"], registry=self.registry, buckets=_SECONDS
        )
        self.run_seconds = Histogram("bundle_run_seconds", "Time of the model alone.", ["model"], registry=self.registry, buckets=_SECONDS)
        self.taken = Gauge("bundle_places_taken", "Requests that run or wait.", registry=self.registry)
        self.ready = Gauge("bundle_ready", "Whether the server takes part in load balancing.", registry=self.registry)

    def text(self) -> bytes:
        """Return all values as Prometheus reads them."""
        return bytes(generate_latest(self.registry))
