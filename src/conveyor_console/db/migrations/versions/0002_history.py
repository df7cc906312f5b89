"""The history: tasks that ended, their executions, results and logs; dead letters; sums.

Revision: 0002, after the identity.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema."""
    _task()
    _task_execution()
    _task_result()
    _task_log()
    _dead_letter_queue()
    _kind()
    _rollup()
    _histogram()
    _failure()
    _recorder()
    op.execute(
        "INSERT INTO console_recorder (id, version, store, cursor, sweep, event_at, lost)"
        " VALUES (1, 0, '', '', NULL, 0, 0)"
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("console_recorder")
    op.drop_table("console_failure")
    op.drop_table("console_histogram")
    op.drop_table("console_rollup")
    op.drop_table("console_kind")
    op.drop_table("dead_letter_queue")
    op.drop_table("console_task_log")
    op.drop_table("console_task_result")
    op.drop_table("console_task_execution")
    op.drop_table("console_task")


def _task() -> None:
    op.create_table(
        "console_task",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("flags", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("enqueued_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("run", sa.Double(), nullable=True),
        sa.Column("execution", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("timeout", sa.Double(), nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("error_type", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("fingerprint", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=True),
        sa.Column("schedule", sa.String(), nullable=True),
        sa.Column("scheduled_for", sa.Double(), nullable=True),
        sa.Column("flow", sa.String(), nullable=True),
        sa.Column("node", sa.Integer(), nullable=True),
        sa.Column("place", sa.Integer(), nullable=True),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("call", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("result_size", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_console_task"),
    )
    op.create_index("ix_console_task_finished_at", "console_task", ["finished_at"], unique=False)
    op.create_index("ix_console_task_flow", "console_task", ["flow"], unique=False)
    op.create_index("ix_console_task_key", "console_task", ["key"], unique=False)
    op.create_index(
        "ix_console_task_name_state_id", "console_task", ["name", "state", "id"], unique=False
    )
    op.create_index(
        "ix_console_task_queue_state_id", "console_task", ["queue", "state", "id"], unique=False
    )
    op.create_index("ix_console_task_state_id", "console_task", ["state", "id"], unique=False)


def _task_execution() -> None:
    op.create_table(
        "console_task_execution",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("duration", sa.Double(), nullable=False),
        sa.Column("code_version", sa.String(), nullable=False),
        sa.Column("retry_in", sa.Double(), nullable=True),
        sa.Column("error_type", sa.String(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["console_task.id"],
            name="fk_console_task_execution_task_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_id", "number", name="pk_console_task_execution"),
    )


def _task_result() -> None:
    op.create_table(
        "console_task_result",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["console_task.id"],
            name="fk_console_task_result_task_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_id", name="pk_console_task_result"),
    )


def _task_log() -> None:
    op.create_table(
        "console_task_log",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("lines", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["console_task.id"], name="fk_console_task_log_task_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", "number", name="pk_console_task_log"),
    )


def _dead_letter_queue() -> None:
    op.create_table(
        "dead_letter_queue",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("died_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error_type", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["console_task.id"],
            name="fk_dead_letter_queue_task_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("task_id", name="pk_dead_letter_queue"),
    )
    op.create_index("ix_dead_letter_queue_died_at", "dead_letter_queue", ["died_at"], unique=False)
    op.create_index(
        "ix_dead_letter_queue_fingerprint_task_id",
        "dead_letter_queue",
        ["fingerprint", "task_id"],
        unique=False,
    )


def _kind() -> None:
    op.create_table(
        "console_kind",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", "queue", name="pk_console_kind"),
    )


def _rollup() -> None:
    op.create_table(
        "console_rollup",
        sa.Column("span", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("executions", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("span", "minute", "queue", "name", name="pk_console_rollup"),
    )


def _histogram() -> None:
    op.create_table(
        "console_histogram",
        sa.Column("span", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("measure", sa.String(length=4), nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "span", "minute", "queue", "name", "measure", "bucket", name="pk_console_histogram"
        ),
    )


def _failure() -> None:
    op.create_table(
        "console_failure",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.String(length=16), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("error_type", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("hour", "fingerprint", "queue", "name", name="pk_console_failure"),
    )


def _recorder() -> None:
    op.create_table(
        "console_recorder",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("store", sa.String(length=36), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("sweep", sa.String(length=36), nullable=True),
        sa.Column("event_at", sa.Double(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_console_recorder"),
    )
