"""The console as an ASGI app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from conveyor import Conveyor
from conveyor_console.account.router import router as account
from conveyor_console.alerts.alerting import Alerting
from conveyor_console.alerts.router import router as alerts
from conveyor_console.analytics.router import router as analytics
from conveyor_console.api_keys.router import router as api_keys
from conveyor_console.audit.recording import Recorded
from conveyor_console.audit_log.router import router as audit
from conveyor_console.auth.access import needs
from conveyor_console.auth.passwords import Passwords
from conveyor_console.auth.permissions import Permission
from conveyor_console.bulk_actions.router import router as bulk_actions
from conveyor_console.bulk_actions.running import Running
from conveyor_console.console import Console, Part
from conveyor_console.db import failures
from conveyor_console.dead_letters.router import router as dead_letters
from conveyor_console.events.router import router as events
from conveyor_console.kit import problems
from conveyor_console.kit.clock import Clock, SystemClock
from conveyor_console.kit.deadlines import Deadline
from conveyor_console.kit.ids import new_id
from conveyor_console.kit.openapi import described, methods_at, methods_by_path
from conveyor_console.kit.overload import InFlight
from conveyor_console.kit.requests import BodyLimit, SafeHeaders, TrustedHosts
from conveyor_console.limits.router import router as limits
from conveyor_console.metrics.measuring import Measured, Measurements
from conveyor_console.metrics.router import router as metrics
from conveyor_console.metrics.scraping import Scrape
from conveyor_console.queues.router import router as queues
from conveyor_console.saved_views.router import router as saved_views
from conveyor_console.schedules.router import router as schedules
from conveyor_console.settings import Settings
from conveyor_console.strikes.router import router as strikes
from conveyor_console.system.backing_up import Backups
from conveyor_console.system.backups import router as backups
from conveyor_console.system.operating import router as operating
from conveyor_console.system.router import probes
from conveyor_console.system.router import router as system
from conveyor_console.tasks.router import again
from conveyor_console.tasks.router import router as tasks
from conveyor_console.users.invitations import router as invitations
from conveyor_console.users.router import router as users
from conveyor_console.webhooks.delivering import Delivering
from conveyor_console.webhooks.router import router as webhooks
from conveyor_console.workers.router import router as workers
from conveyor_console.workflows.router import router as workflows

_P = Permission
API = "/api/v1"
_NOUNS: tuple[APIRouter, ...] = (
    account,
    users,
    invitations,
    api_keys,
    audit,
    tasks,
    again,
    bulk_actions,
    saved_views,
    dead_letters,
    analytics,
    queues,
    workers,
    schedules,
    workflows,
    limits,
    strikes,
    system,
    operating,
    backups,
    events,
    alerts,
    webhooks,
)
_STREAMS = frozenset({f"{API}/events"})
_NEVER_BUSY = _STREAMS | {"/livez", "/readyz", "/metrics"}
_HASHING = frozenset(f"{API}/auth/{name}" for name in ("login", "register", "password"))
_THOROUGH = tuple(
    f"{API}/{path}"
    for path in (
        *("audit/verify", "bulk-actions", "dead-letters/requeue", "dead-letters/discard"),
        *("system/backups", "system/doctor", "system/maintenance", "tasks/bulk"),
    )
)
"""What may have very much to do, and so gets longer."""
_THOROUGH_SECONDS = 300.0
_PARTS: tuple[Callable[[Console], Part], ...] = (
    Alerting,
    Backups,
    Delivering,
    Measurements,
    Running,
    Scrape,
)


@cache
def _openapi() -> dict[str, Any]:
    """Describe the API once, which takes a third of a second."""
    return described(_ROUTES, never_busy=_NEVER_BUSY)


@cache
def _methods() -> Mapping[str, frozenset[str]]:
    return methods_by_path(_ROUTES)


def _described() -> Any:
    return _openapi()


def _routes() -> Sequence[BaseRoute]:
    router = APIRouter()
    for noun in _NOUNS:
        router.include_router(noun, prefix=API)
    router.include_router(probes)
    router.include_router(metrics)
    # A function of the module: FastAPI keeps every endpoint for ever, and all it closes over.
    router.add_api_route(
        "/api/openapi.json",
        _described,
        include_in_schema=False,
        dependencies=[needs(_P.SYSTEM_READ)],
    )
    return router.routes


# Shared by all consoles of a process: what FastAPI finds out about a route it finds out once.
_ROUTES = _routes()


def create_app(
    queue: Conveyor,
    settings: Settings | None = None,
    *,
    clock: Clock | None = None,
    new_id: Callable[[], str] = new_id,
    passwords: Passwords | None = None,
) -> FastAPI:
    """Make the console of a queue. Raises `InvalidOption` for settings that cannot be."""
    settings = (settings or Settings()).with_secret()
    console = Console(
        queue,
        settings,
        clock or SystemClock(),
        new_id,
        passwords or Passwords(),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            async with queue:
                try:
                    await console.open()
                    yield
                finally:
                    await console.rest()
        finally:
            await console.close()

    app = FastAPI(
        title="Conveyor",
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        routes=[*_ROUTES],
    )
    app.state.console = console
    console.add_parts(_PARTS)
    failures.install(app)
    problems.install(app, lambda path: methods_at(_methods(), path))

    app.openapi = _openapi  # type: ignore[method-assign]
    _wrap(app, console)
    return app


def _wrap(app: FastAPI, console: Console) -> None:
    """Put the middleware around it; what is added last is passed first."""
    settings = console.settings
    bulk = f"{API}/tasks/bulk"
    longest = max(_THOROUGH_SECONDS, settings.request_seconds)
    app.add_middleware(
        Deadline,
        of=lambda path: longest if path.startswith(_THOROUGH) else settings.request_seconds,
    )
    app.add_middleware(
        BodyLimit,
        of=lambda path: settings.max_bulk_body if path == bulk else settings.max_body,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_credentials=True,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "If-Match",
                "Idempotency-Key",
                "X-CSRF-Token",
            ],
            expose_headers=["ETag", "Retry-After", "Idempotency-Replayed", "X-Request-ID"],
        )
    app.add_middleware(TrustedHosts, allowed=settings.allowed_hosts)
    app.add_middleware(SafeHeaders, https=settings.cookie_secure)
    app.add_middleware(Recorded, auditor=console.auditor)
    app.add_middleware(Measured, measurements=console.part(Measurements), streams=_STREAMS)
    app.add_middleware(InFlight, most=settings.max_in_flight, exempt=_NEVER_BUSY, slow=_HASHING)
