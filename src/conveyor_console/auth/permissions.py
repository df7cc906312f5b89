"""The one table of who may do what. A route names its permission, never a role."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from conveyor_console.auth.models import Role


class Permission(StrEnum):
    """What a route asks for, and a scope that an API key may have."""

    TASKS_READ = "tasks:read"
    TASKS_ENQUEUE = "tasks:enqueue"
    TASKS_MANAGE = "tasks:manage"
    QUEUES_READ = "queues:read"
    QUEUES_MANAGE = "queues:manage"
    WORKERS_READ = "workers:read"
    WORKERS_MANAGE = "workers:manage"
    SCHEDULES_READ = "schedules:read"
    SCHEDULES_MANAGE = "schedules:manage"
    WORKFLOWS_READ = "workflows:read"
    WORKFLOWS_MANAGE = "workflows:manage"
    LIMITS_READ = "limits:read"
    LIMITS_MANAGE = "limits:manage"
    ANALYTICS_READ = "analytics:read"
    EVENTS_READ = "events:read"
    """The stream as such; each topic of it needs the permission of what it tells of."""
    ALERTS_READ = "alerts:read"
    ALERTS_MANAGE = "alerts:manage"
    ALERTS_REPORT = "alerts:report"
    """To say how metrics of one's own stand: for keys of programs."""
    WEBHOOKS_MANAGE = "webhooks:manage"
    METRICS_READ = "metrics:read"
    SYSTEM_READ = "system:read"
    SYSTEM_CHECK = "system:check"
    """To have the store examined, which reads all that is alive."""
    SYSTEM_MANAGE = "system:manage"
    USERS_MANAGE = "users:manage"
    AUDIT_READ = "audit:read"
    SELF = "self"
    """One's own account: for people, never a scope of a key."""


_P = Permission
_VIEWER = frozenset(
    {
        _P.TASKS_READ,
        _P.QUEUES_READ,
        _P.WORKERS_READ,
        _P.SCHEDULES_READ,
        _P.WORKFLOWS_READ,
        _P.LIMITS_READ,
        _P.ANALYTICS_READ,
        _P.EVENTS_READ,
        _P.ALERTS_READ,
        _P.METRICS_READ,
        _P.SYSTEM_READ,
        _P.SELF,
    }
)
_OPERATOR = _VIEWER | {
    _P.TASKS_ENQUEUE,
    _P.TASKS_MANAGE,
    _P.QUEUES_MANAGE,
    _P.WORKERS_MANAGE,
    _P.SCHEDULES_MANAGE,
    _P.WORKFLOWS_MANAGE,
    _P.LIMITS_MANAGE,
    _P.ALERTS_MANAGE,
    _P.ALERTS_REPORT,
    _P.SYSTEM_CHECK,
}
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: frozenset(Permission),
}
SCOPES = frozenset(Permission) - {Permission.SELF}
"""What a key can be given."""


def allowed(role: Role, scopes: Iterable[str] | None = None) -> frozenset[Permission]:
    """What somebody of this role may do; through a key only its scopes, and never more."""
    own = PERMISSIONS[role]
    if scopes is None:
        return own
    wanted = set(scopes)
    return frozenset(permission for permission in own & SCOPES if permission.value in wanted)
