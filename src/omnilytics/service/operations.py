"""Health and metrics over HTTP: with reasons on the private port, without on the public one."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.responses import Response

from omnilytics.service.health import Health
from omnilytics.service.metrics import CONTENT_TYPE, Metrics


def add_health_routes(application: FastAPI, health: Health, *, reasons: bool) -> None:
    """Add /healthz and /readyz.

    Args:
        application: Where to.
        health: What to ask.
        reasons: Tell why a check fails, which names disks and nodes.
    """

    @application.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Tell that the process answers."""
        return {"status": "alive"}

    @application.get("/readyz", response_model=None)
    async def readyz() -> JSONResponse:
        """Tell whether the server can do its work: 200, or 503 and which checks fail."""
        checks = await asyncio.to_thread(health.checks)
        passed = all(check.passed for check in checks)
        shown: dict[str, object] = {
            check.name: "ok" if check.passed else (check.reason if reasons else "failed")
            for check in checks
        }
        body = {"status": "ready" if passed else "not ready", "checks": shown}
        return JSONResponse(body, status_code=200 if passed else 503)


def operations_application(health: Health, metrics: Metrics) -> FastAPI:
    """Return the application of the private port: health with reasons, and metrics."""
    application = FastAPI(title="OmniLytics server operations", openapi_url=None)
    add_health_routes(application, health, reasons=True)

    @application.get("/metrics", response_model=None)
    async def show_metrics() -> Response:
        """Return all metrics in Prometheus's text format."""
        await asyncio.to_thread(health.checks)
        health.measure()
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    return application
