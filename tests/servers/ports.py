"""Ports for test servers."""

import secrets
import socket

# Below the ephemeral range of Linux (32768) and macOS (49152): no outgoing connection can take the
# port of a server that is down for a moment, and no client that retries can connect to itself.
# The upper half is for Redis Cluster, whose bus listens at port + 10000.
_FIRST, _LAST = 10_240, 21_999
BUS_OFFSET = 10_000
_TRIES = 200


def free_port(*, bus: bool = False) -> int:
    """Return a port of 127.0.0.1 that nobody listens on now; with `bus`, port + 10000 is free too.

    Another process may still take it before it is used: launchers try again with a new one.
    Raises `OSError` when none is found.
    """
    for _ in range(_TRIES):
        # Not `random`: pytest-randomly gives every xdist worker the same seed.
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        if _is_free(port) and (not bus or _is_free(port + BUS_OFFSET)):
            return port
    raise OSError(f"No free port between {_FIRST} and {_LAST} on 127.0.0.1 in {_TRIES} tries.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
