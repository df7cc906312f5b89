"""`GET /metrics`."""

from __future__ import annotations

import ipaddress

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text

from conveyor_console.auth.access import Needs
from conveyor_console.auth.permissions import Permission
from conveyor_console.auth.principals import Principal
from conveyor_console.deps import Reading, console_of
from conveyor_console.kit.problems import problems
from conveyor_console.metrics.scraping import Scrape

router = APIRouter(tags=["metrics"], responses=problems(401, 403, 503))
_OPEN = text("SELECT count(*) FROM console_alert WHERE status IN ('firing', 'acknowledged')")


class MayScrape(Needs):
    """A permission, or being on this machine where the settings allow that. Behind a proxy
    everybody comes from this machine, so what a proxy forwards does not count."""

    async def __call__(self, request: Request) -> Principal | None:  # type: ignore[override]
        """Return who asks, if that was asked. Raises `Problem` 401 and 403."""
        local = console_of(request).settings.metrics_open and _is_direct_and_local(request)
        return None if local else await super().__call__(request)


@router.get(
    "/metrics",
    dependencies=[Depends(MayScrape(Permission.METRICS_READ))],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request, db: Reading) -> Response:
    """Metrics in Prometheus' text format."""
    console = console_of(request)
    scrape = console.part(Scrape)
    return Response(
        await scrape.text(int(await db.scalar(_OPEN) or 0)), media_type=CONTENT_TYPE_LATEST
    )


def _is_direct_and_local(request: Request) -> bool:
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        return False
