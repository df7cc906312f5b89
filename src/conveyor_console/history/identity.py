"""Which store this is: a mark of our own in it, gone when the store was emptied or replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_KIND, _ID = "console", "identity"


async def identify(client: Any, new_id: Callable[[], str]) -> str:
    """Return the mark of the client's store, leaving one when there is none. Raises
    `BrokerError`."""
    documents = client.broker.documents
    found = (await documents.get(_KIND, [_ID])).get(_ID)
    if found is None:
        await documents.put(_KIND, _ID, new_id().encode(), 0)
        found = (await documents.get(_KIND, [_ID])).get(_ID)
    return "" if found is None else bytes(found.body).decode()
