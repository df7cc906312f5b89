"""Alembic's place: `env.py` and one file per revision. Expand now, contract a release later."""
