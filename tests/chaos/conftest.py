"""Stores of the chaos tests have their schema."""

from tests.stores import postgres_template

__all__ = ["postgres_template"]
