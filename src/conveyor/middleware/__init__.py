"""Onion middleware around enqueueing and around running."""

from conveyor.middleware.base import Middleware

__all__ = ["Middleware"]
