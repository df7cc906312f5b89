"""The table of saved views."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from conveyor_console.db.base import PREFIX, Base, Id, Moment


class SavedView(Base):
    """A filter of one list under a name; it goes with its user."""

    __tablename__ = f"{PREFIX}saved_view"
    __table_args__ = (UniqueConstraint("user_id", "of", "name"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey(f"{PREFIX}user.id", ondelete="CASCADE"))
    of: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(100))
    q: Mapped[str] = mapped_column(String(1_000))
    sort: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(Moment)
    updated_at: Mapped[datetime] = mapped_column(Moment)
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it
