"""What the console reads from its environment, all of it under `CONVEYOR_`."""

from __future__ import annotations

import ipaddress
import secrets
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from conveyor.errors import InvalidOption

SHORTEST_SECRET = 32
"""Bytes of key that HMAC-SHA-256 wants at least (RFC 7518 §3.2)."""

Names = Annotated[tuple[str, ...], NoDecode]
"""A list that the environment gives separated by commas."""


class Settings(BaseSettings):
    """The console's settings. Every one is an environment variable `CONVEYOR_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="CONVEYOR_", extra="ignore", frozen=True)

    secret_key: SecretStr | None = None
    """Signs sessions: 32 bytes or more, the same for all replicas. Without one the console makes
    one for this process (sessions end with it) and only listens on loopback addresses."""
    previous_secret_keys: tuple[SecretStr, ...] = ()
    """Former secret keys (a JSON list): they open what was sealed with them, and sign nothing."""
    database_url: str | None = None
    """The console's own database; default: the queue's SQLite or PostgreSQL, else
    `sqlite:///conveyor.db`."""
    admin_email: str | None = None
    admin_password: SecretStr | None = None
    """The first administrator, made at the start while there is no user."""
    registration: Literal["closed", "invitation", "open"] = "invitation"
    """Who may register: nobody, who was invited, or everybody (as a viewer)."""

    allowed_hosts: Names = ("*",)
    """`Host` headers to answer; on a public address name yours."""
    cors_origins: Names = ()
    """Origins of other sites whose scripts may call the API with credentials."""
    trusted_proxies: Names = ()
    """Networks (CIDR) whose `X-Forwarded-For` counts; empty: nobody's."""
    cookie_secure: bool = False
    """Send cookies over HTTPS only; the default of `serve` on a public address."""

    access_seconds: int = Field(default=900, ge=60, le=86_400)
    """Life of an access token."""
    refresh_seconds: int = Field(default=14 * 86_400, ge=600, le=90 * 86_400)
    """Life of a session without use."""
    session_seconds: int = Field(default=30 * 86_400, ge=600, le=366 * 86_400)
    """Life of a session, however often it is used."""

    max_body: int = Field(default=1 << 20, ge=1_024)
    """Largest body of a request, bytes."""
    max_bulk_body: int = Field(default=16 << 20, ge=1_024)
    """Largest body of a bulk enqueue, bytes."""
    max_in_flight: int = Field(default=128, ge=1)
    """Requests served at a time by one process; more are answered 503 at once."""
    request_seconds: float = Field(default=30.0, ge=1, le=3_600)
    """Longest that a request is worked on; then it is answered 503."""
    database_seconds: float = Field(default=10.0, ge=1, le=3_600)
    """Longest that the console's database is waited for: a connection, an answer."""
    max_streams: int = Field(default=2_000, ge=1)
    """Event streams of one process at a time."""
    metrics_open: bool = False
    """Let callers on this machine (loopback) read /metrics without signing in."""

    outgoing_networks: Names = ()
    """Private networks (CIDR) that webhooks and alerts may be sent to; else public addresses
    only."""
    outgoing_ports: Annotated[tuple[int, ...], NoDecode] = (80, 443)
    """Ports that webhooks and alerts may be sent to."""
    smtp_host: str | None = None
    """Server that sends the e-mails of alerts; without one there are none."""
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_from: str = "conveyor@localhost"
    """Sender of e-mails."""

    history_days: int = Field(default=30, ge=1)
    """Days that finished tasks stay in the history."""
    backup_folder: Path | None = None
    """Where backups of SQLite files go; without one there are none."""
    backups_kept: int = Field(default=7, ge=1)
    """Backups that stay; a new one takes the place of the oldest."""

    @field_validator(
        "allowed_hosts",
        "cors_origins",
        "trusted_proxies",
        "outgoing_networks",
        "outgoing_ports",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies", "outgoing_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < SHORTEST_SECRET:
            raise ValueError(
                f"needs {SHORTEST_SECRET} bytes or more; make one with: "
                'python -c "import secrets; print(secrets.token_urlsafe(48))"'
            )
        return value

    def with_secret(self) -> Self:
        """Return these settings with a secret: the given one, or one for this process."""
        if self.secret_key is not None:
            return self
        return self.model_copy(update={"secret_key": SecretStr(secrets.token_urlsafe(48))})

    @property
    def secret(self) -> bytes:
        """The signing key. Raises `InvalidOption` without one: see `with_secret`."""
        if self.secret_key is None:
            raise InvalidOption("CONVEYOR_SECRET_KEY is not set")
        return self.secret_key.get_secret_value().encode()

    def database_for(self, queue_url: str) -> str:
        """Return the URL of the console's database beside a queue at `queue_url`."""
        if self.database_url is not None:
            return self.database_url
        if queue_url.startswith(("sqlite:", "postgres")) and ":memory:" not in queue_url:
            return queue_url.partition("?")[0] if queue_url.startswith("sqlite:") else queue_url
        return "sqlite:///conveyor.db"


def check_address(host: str, settings: Settings) -> None:
    """Refuse to listen where others can reach it with a secret nobody chose. Raises
    `InvalidOption`."""
    if is_loopback(host) or settings.secret_key is not None:
        return
    raise InvalidOption(
        f"--host {host} can be reached by others: set CONVEYOR_SECRET_KEY first "
        f"({SHORTEST_SECRET} bytes or more), or listen on 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address."""
    if host == "localhost" or host.startswith("/") or Path(host).is_absolute():
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
