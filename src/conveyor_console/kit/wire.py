"""Types of what comes over the wire, shared by all resources."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


class Strict(BaseModel):
    """A body: what it does not know is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


def _one_line(text: str) -> str:
    """Refuse what would begin a new line in a log or a header, and what PostgreSQL cannot keep:
    NUL, and half of a surrogate pair."""
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text):
        raise ValueError("must be one line, without control characters")
    return text


Line = Annotated[str, AfterValidator(_one_line)]
"""Text on one line; everything else in it comes back unchanged."""
PathId = Annotated[str, Path(pattern=_UUID)]
"""An id in a path."""
