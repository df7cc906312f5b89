"""`python -m tests.servers valkey|postgres --print-url`: a server for scripts.

Runs until standard input is closed, CTRL-C or SIGTERM. The URL is one line on standard output.
"""

import argparse
import os
import signal
import sys
import threading

from tests.servers import (
    PostgresServer,
    SentinelSet,
    ServerFailed,
    ServerMissing,
    ValkeyCluster,
    ValkeyServer,
)

AnyServer = ValkeyServer | PostgresServer | ValkeyCluster | SentinelSet
KINDS = ("valkey", "postgres", "cluster", "sentinel")


def main(arguments: list[str] | None = None) -> int:
    """Start the server that `arguments` ask for, and stop it when told; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _server(options) as server:
            if options.print_url:
                print(server.url, flush=True)
            else:
                print(f"{options.kind} at {server.url} until CTRL-C", flush=True)
            _wait_for_the_end()
    except (ServerMissing, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--print-url", action="store_true", help="print nothing but the URL")
    parser.add_argument("--aof", choices=["always", "everysec", "none"], default="none")
    parser.add_argument("--fsync", action="store_true", help="PostgreSQL flushes to disk")
    return parser


def _server(options: argparse.Namespace) -> AnyServer:
    if options.kind == "postgres":
        return PostgresServer(fsync=options.fsync)
    if options.kind == "cluster":
        return ValkeyCluster(aof=options.aof)
    if options.kind == "sentinel":
        return SentinelSet(aof=options.aof)
    return ValkeyServer(aof=options.aof)


def _wait_for_the_end() -> None:
    ended = threading.Event()

    def end(*_: object) -> None:
        ended.set()

    def read_to_the_end() -> None:
        # Not `sys.stdin`: its lock, held by this thread, would break the interpreter's exit.
        while os.read(0, 4096):
            pass
        ended.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=read_to_the_end, daemon=True).start()
    ended.wait()


if __name__ == "__main__":
    sys.exit(main())
