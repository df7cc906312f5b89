"""How a call becomes a payload and comes back: versions, sealed arguments, blobs, in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from conveyor.core.codec import decode, encode
from conveyor.core.envelope import Call, Sealed, Wrapping, is_wrapped, join, split, unwrap, wrap
from conveyor.core.record import digest_of

if TYPE_CHECKING:
    from conveyor.core.task import Task
    from conveyor.offload import Offload
    from conveyor.sealing import Keyring
    from conveyor.tasks import TaskDefinition

    Definition = TaskDefinition[..., Any, Any]

_EMPTY = Call([], {})


class Packing:
    """What the app says of payloads: `keys` to seal with, where large ones go."""

    def __init__(self, keys: Keyring | None = None, offload: Offload | None = None) -> None:
        self.keys = keys
        self.offload = offload

    def wraps(self, task: Task, definition: Definition) -> bool:
        """Whether this call needs something around it."""
        if definition.version > 1 or definition.encrypt:
            return True
        return self.offload is not None and len(task.payload) > self.offload.above

    def pack(self, task: Task, definition: Definition) -> Task:
        """Return the task with its payload as it is stored. Blocks while a blob is written."""
        call = split(task.payload)
        sealed = self.seal(call, task, definition)
        payload, digest = task.payload, task.digest
        if definition.encrypt and digest is not None:
            # A digest of the plain call would let anybody try out what a short secret is.
            digest = digest_of(join(call))
        if sealed or definition.version > 1:
            payload = wrap(call, Wrapping(definition.version, tuple(sealed)))
        if self.offload is not None and len(payload) > self.offload.above:
            keys = tuple(Sealed(field.where, field.key_id, b"", b"") for field in sealed)
            blob = self.offload.put(payload)
            payload = wrap(_EMPTY, Wrapping(definition.version, keys, blob))
        return msgspec.structs.replace(task, payload=payload, digest=digest)

    def seal(
        self, call: Call, task: Task, definition: Definition, *, steady: bool = False
    ) -> list[Sealed]:
        """Encrypt the arguments that the definition wants sealed, putting nil in their place."""
        if not definition.encrypt or self.keys is None or not (call.args or call.kwargs):
            return []
        fields, signature = definition.encrypt, definition.signature
        return self.keys.seal(call, task, fields, signature, steady=steady)

    def unpack(self, task: Task, definition: Definition) -> bytes:
        """Return a plain payload for the definition as it is now. Raises `LookupError` or
        `ValueError` when something is missing or damaged, and what an upcaster raises.
        """
        payload = task.payload
        if is_wrapped(payload):
            _, wrapping = unwrap(payload)
            if wrapping.blob is not None:
                if self.offload is None:
                    raise LookupError("its arguments are in a blob store: this app names none")
                payload = self.offload.get(wrapping.blob)
        version = 1
        if is_wrapped(payload):
            call, wrapping = unwrap(payload)
            version = wrapping.version
            self._open(task, call, wrapping)
            payload = join(call)
        if version < definition.version:
            payload = _upcast(payload, version, definition)
        return payload

    def _open(self, task: Task, call: Call, wrapping: Wrapping) -> None:
        for field in wrapping.sealed:
            if self.keys is None:
                raise LookupError("its arguments are sealed: this app has no keys")
            raw = msgspec.Raw(self.keys.open(task, field))
            if isinstance(field.where, int):
                call.args[field.where] = raw
            else:
                call.kwargs[field.where] = raw

    def objection(self, task: Task, definition: Definition) -> str | None:
        """Say why this worker cannot run the task while another one may: it was enqueued by newer
        code, is sealed with a key that is not here, or lies in a blob store that is not."""
        if not is_wrapped(task.payload):
            return None
        try:
            _, wrapping = unwrap(task.payload)
        except msgspec.DecodeError:
            return None  # Whoever runs it will say what is wrong with it.
        if wrapping.version > definition.version:
            return (
                f"it was enqueued for version {wrapping.version} of {task.name!r}, "
                f"and this worker has version {definition.version}"
            )
        ids = self.keys.ids if self.keys is not None else frozenset[str]()
        missing = {field.key_id for field in wrapping.sealed} - ids
        if missing:
            return f"it is sealed with key {min(missing)!r}, which this worker does not have"
        if wrapping.blob is not None and self.offload is None:
            return "its arguments are in a blob store, and this worker has none"
        return None


def _upcast(payload: bytes, version: int, definition: Definition) -> bytes:
    args, kwargs = decode(payload)
    for step in range(version, definition.version):
        migrate = definition.migrate.get(step)
        if migrate is not None:
            args, kwargs = migrate(tuple(args), dict(kwargs))
    return encode((args, kwargs), what=f"upcast arguments of {definition.name}")
