"""Runs revisions on the connection that `conveyor_console.db.schema` gives."""

from alembic import context

from conveyor_console.db.base import Base
from conveyor_console.db.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
