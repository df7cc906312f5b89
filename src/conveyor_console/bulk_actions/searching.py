"""What the list of bulk actions can be filtered by."""

from __future__ import annotations

from sqlalchemy import Double, cast, literal

from conveyor_console.bulk_actions.models import Action, BulkAction, Of, State
from conveyor_console.kit.filters import Field, Kind
from conveyor_console.kit.grammar import FREE
from conveyor_console.kit.searching import Searching

_A = BulkAction
SEARCH = Searching(
    fields={
        "action": Field(Kind.CHOICE, "action", tuple(one.value for one in Action)),
        "of": Field(Kind.CHOICE, "of", tuple(one.value for one in Of)),
        "state": Field(Kind.CHOICE, "state", tuple(one.value for one in State)),
        "by": Field(Kind.TEXT, "created_by"),
        "reason": Field(Kind.WORDS, "reason"),
        "done": Field(Kind.NUMBER, "done"),
        "failed": Field(Kind.NUMBER, "failed"),
        "age": Field(Kind.AGE, "created_at"),
        "created": Field(Kind.MOMENT, "created_at"),
        FREE: Field(Kind.WORDS, "text"),
    },
    columns={
        "action": _A.action.expression,
        "of": _A.of.expression,
        "state": _A.state.expression,
        "created_by": _A.created_by.expression,
        "reason": _A.reason.expression,
        "done": cast(_A.done, Double),
        "failed": cast(_A.failed, Double),
        "created_at": _A.created_at.expression,
        "text": _A.q + literal(" ") + _A.reason,
    },
)
