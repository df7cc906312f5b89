"""The console as an ASGI app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from conveyor import Conveyor
from conveyor_console.account.router import router as account
from conveyor_console.auth.access import needs
from conveyor_console.auth.passwords import Passwords
from conveyor_console.auth.permissions import Permission
from conveyor_console.console import Console
from conveyor_console.kit import problems
from conveyor_console.kit.clock import Clock, SystemClock
from conveyor_console.kit.ids import new_id
from conveyor_console.kit.requests import BodyLimit, SafeHeaders
from conveyor_console.settings import Settings
from conveyor_console.system.router import probes
from conveyor_console.system.router import router as system
from conveyor_console.tasks.router import router as tasks

_P = Permission
API = "/api/v1"
_NOUNS: tuple[APIRouter, ...] = (account, tasks, system)


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
                await console.open()
                yield
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
    )
    app.state.console = console
    problems.install(app)
    for noun in _NOUNS:
        app.include_router(noun, prefix=API)
    app.include_router(probes)

    @app.get("/api/openapi.json", include_in_schema=False, dependencies=[needs(_P.SYSTEM_READ)])
    async def openapi() -> Any:
        return app.openapi()

    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    _wrap(app, settings)
    return app


def _wrap(app: FastAPI, settings: Settings) -> None:
    """Put the middleware around it; what is added last is passed first."""
    bulk = f"{API}/tasks/bulk"
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
            expose_headers=["ETag", "Retry-After"],
        )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts))
    app.add_middleware(SafeHeaders, https=settings.cookie_secure)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Describe the API once (OpenAPI 3.1)."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title="Conveyor",
            version="1",
            description="Tasks, queues, workers and everything around them.",
            routes=app.routes,
        )
        parts = schema.setdefault("components", {})
        model = problems.ProblemOut.model_json_schema(ref_template="#/components/schemas/{model}")
        parts.setdefault("schemas", {})["ProblemOut"] = model
        parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = schema
    return app.openapi_schema
