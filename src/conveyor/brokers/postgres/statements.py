"""The SQL of this store, from the `.sql` files beside it: each statement has a name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from conveyor.brokers import sql

_FOLDER = Path(__file__).parent / "sql"
script = partial(sql.script, _FOLDER)
statements = partial(sql.statements, _FOLDER)
