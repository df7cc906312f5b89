"""Large arguments outside of the queue: a blob store keeps them, the task carries a reference.

    app = Conveyor(offload=Offload(DirectoryStore("/srv/conveyor-blobs"), above=64_000))

Any object with `put`, `get` and `delete` is a blob store; an S3-compatible one is ten lines around
its client. Blobs are written before their task and named after their content, so that a crash
leaves a blob too many, never one too few. They are not deleted by the queue: give the store a
lifetime that is longer than the retention of dead letters.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

import msgspec

from conveyor.core.amounts import is_number
from conveyor.core.codec import MAX_PAYLOAD
from conveyor.core.envelope import Blob
from conveyor.core.errors import InvalidOption

__all__ = ["BlobStore", "DirectoryStore", "Offload"]

MAX_BLOB = 64 * 1024 * 1024
"""Bytes of encoded arguments, when they may be offloaded."""


class BlobStore(Protocol):
    """Keeps bytes by name. Called from threads; an exception fails the enqueue or the attempt."""

    def put(self, ref: str, data: bytes) -> None:
        """Store it durably. The same name always means the same content."""

    def get(self, ref: str) -> bytes:
        """Return it. Raises `LookupError` when it is not there."""

    def delete(self, ref: str) -> None:
        """Delete it, if it is there."""


class DirectoryStore:
    """Blobs as files of a folder that all producers and workers share."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def put(self, ref: str, data: bytes) -> None:
        """Write the file, and only then give it its name."""
        path = self._path(ref)
        try:
            # As young as its newest task: whoever sweeps by age must not take it from under it.
            os.utime(path)
        except FileNotFoundError:
            self._write(path, data)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for folder in (path.parent, self._folder) if os.name == "posix" else ():
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def get(self, ref: str) -> bytes:
        """Read the file."""
        try:
            return self._path(ref).read_bytes()
        except FileNotFoundError:
            raise LookupError(f"no blob {ref!r} in {self._folder}") from None

    def delete(self, ref: str) -> None:
        """Remove the file."""
        self._path(ref).unlink(missing_ok=True)

    def _path(self, ref: str) -> Path:
        if not ref.isalnum():
            raise LookupError(f"{ref!r} names no blob")
        return self._folder / ref[:2] / ref


class Offload(msgspec.Struct, frozen=True):
    """Where arguments go that are larger than `above` bytes when encoded."""

    store: BlobStore
    above: int = 64_000

    def __post_init__(self) -> None:
        """Refuse a bound that makes no sense."""
        if not is_number(self.above) or not 0 < self.above <= MAX_PAYLOAD:
            raise InvalidOption(f"Offload(above={self.above!r}): bytes, from 1 to {MAX_PAYLOAD:,}")

    def put(self, payload: bytes) -> Blob:
        """Store a payload."""
        digest = hashlib.sha256(payload).hexdigest()
        self.store.put(digest, payload)
        return Blob(digest, len(payload), digest)

    def get(self, blob: Blob) -> bytes:
        """Read a payload back. Raises `LookupError`, or `ValueError` when it was changed."""
        payload = self.store.get(blob.ref)
        if hashlib.sha256(payload).hexdigest() != blob.sha256:
            raise ValueError(f"blob {blob.ref!r} is not what was stored")
        return payload
