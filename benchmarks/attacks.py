"""What an attacker could read from a clock, and win by being fifty at once: over HTTP.

    python -m benchmarks.attacks --store sqlite --parts answers races
    python -m benchmarks.attacks --store postgres        # two replicas, fifty callers on both

`answers`: how long refusals take, in turn, so that what the machine does hits all alike: medians
in milliseconds and the probability that one is slower than the other (0.5: nothing to learn).
`races`: fifty requests that only one may win, two hundred times each; what more than one won.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from itertools import count, cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx

from tests.console.fuzzing import PASSWORD, environment, served

CALLERS = 50
A_GROUP = 20
"""Failures of one account: fewer than the throttle minds."""
ADMIN = {"email": "first@example.com", "password": PASSWORD}
Asking = Callable[[], Awaitable[httpx.Response]]


class Attacker:
    """Callers of one console or of several replicas of it."""

    def __init__(self, addresses: Sequence[str]) -> None:
        limits = httpx.Limits(max_connections=CALLERS, keepalive_expiry=2)
        self._clients = [
            httpx.AsyncClient(base_url=f"{one}/api/v1", limits=limits, timeout=60)
            for one in addresses
        ]
        self._next = cycle(self._clients)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the next replica."""
        client = next(self._next)
        client.cookies.clear()
        return await client.request(method, path, **more)

    async def sign_in(self) -> dict[str, Any]:
        """Sign in as the administrator; from now on ask as one."""
        granted: dict[str, Any] = (await self.ask("POST", "/auth/login", json=ADMIN)).json()
        for client in self._clients:
            client.headers["Authorization"] = f"Bearer {granted['access_token']}"
        return granted

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.aclose()


async def answers(attacker: Attacker, rounds: int) -> None:
    """Compare how long refusals take, kind by kind."""
    await _accounts(attacker, rounds // A_GROUP + 1)
    body = {"name": "k", "scopes": ["tasks:read"]}
    key = (await attacker.ask("POST", "/api-keys", json=body)).json()["key"]

    def login(account: str, password: str) -> Asking:
        # Another account now and then, and a network of its own each time: this is about clocks,
        # not about the throttle.
        emails = (f"{account}{n // A_GROUP}@example.com" for n in count())
        return lambda: attacker.ask(
            "POST",
            "/auth/login",
            json={"email": next(emails), "password": password},
            headers={"X-Forwarded-For": next(_networks)},
        )

    def by_key(text: str) -> Asking:
        bearer = {"Authorization": f"Bearer {text}"}
        return lambda: attacker.ask("GET", "/tasks", headers=bearer)

    await _compare(
        rounds,
        {
            "wrong password": login("there", "not the password"),
            "nobody's address": login("nobody", "not the password"),
            "disabled, right password": login("out", PASSWORD),
            "disabled, wrong password": login("gone", "not the password"),
        },
    )
    await _compare(
        rounds * 5,
        {
            "key of nobody": by_key(f"cv_live_zzzzzzzz_{'A' * 43}"),
            "known prefix, wrong rest": by_key(f"{key[:17]}{'A' * 43}"),
            "all but the last letter": by_key(f"{key[:-1]}{'A' if key[-1] != 'A' else 'B'}"),
        },
    )


async def _accounts(attacker: Attacker, groups: int) -> None:
    off = {"json": {"disabled": True}, "headers": {"If-Match": "*"}}
    for number in range(groups):
        for kind in ("there", "out", "gone"):
            body = {"email": f"{kind}{number}@example.com", "password": PASSWORD}
            made = (await attacker.ask("POST", "/users", json=body)).json()
            if kind != "there":
                await attacker.ask("PATCH", f"/users/{made['id']}", **off)


_networks = (f"{a}.{b}.{c}.7" for a in range(11, 99) for b in range(250) for c in range(250))


async def _compare(rounds: int, kinds: dict[str, Asking]) -> None:
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, ask in random.sample(list(kinds.items()), len(kinds)):
            begun = perf_counter()
            answer = await ask()
            took[name].append((perf_counter() - begun) * 1_000)
            assert answer.status_code == 401, (name, answer.text)
    first = next(iter(took.values()))
    for name, times in took.items():
        slower = sum(a > b for a in times for b in first) / (len(times) * len(first))
        print(f"{name:28} median {statistics.median(times):7.2f} ms, slower: {slower:.3f}")


async def races(attacker: Attacker, rounds: int) -> None:
    """Run each race, and count who won."""
    granted = await attacker.sign_in()
    for race in (_key, _task, _role, _view):
        won: Counter[int] = Counter()
        statuses: Counter[int] = Counter()
        for number in range(rounds):
            how_many, found = await race(attacker, number)
            won[how_many] += 1
            statuses.update(found)
        told = dict(sorted(statuses.items()))
        print(f"{race.__doc__} winners by race {dict(won)}, answers {told}")
    token, families = granted["refresh_token"], Counter[int]()
    for _ in range(rounds):
        answered = await _all(attacker, "POST", "/auth/refresh", json={"refresh_token": token})
        tokens = {one.json()["refresh_token"] for one in answered if one.status_code == 200}
        families[len(tokens)] += 1
        assert {one.status_code for one in answered} == {200}
        (token,) = tokens
    print(f"refresh of one token: successors by race {dict(families)}")


async def _all(attacker: Attacker, method: str, path: str, **more: Any) -> list[httpx.Response]:
    return await asyncio.gather(*(attacker.ask(method, path, **more) for _ in range(CALLERS)))


def _told(answered: list[httpx.Response]) -> Counter[int]:
    found = Counter(one.status_code for one in answered)
    assert all(status < 500 or status == 503 for status in found), found
    return found


async def _key(attacker: Attacker, number: int) -> tuple[int, Counter[int]]:
    """an API key under one Idempotency-Key:"""
    body = {"name": f"k{number}", "scopes": ["tasks:read"]}
    once = {"Idempotency-Key": f"key {number}"}
    answered = await _all(attacker, "POST", "/api-keys", json=body, headers=once)
    ids = {one.json()["api_key"]["id"] for one in answered if one.status_code == 201}
    for one in ids:
        await attacker.ask("DELETE", f"/api-keys/{one}")
    return len(ids), _told(answered)


async def _task(attacker: Attacker, number: int) -> tuple[int, Counter[int]]:
    """a task under one Idempotency-Key:"""
    once = {"Idempotency-Key": f"task {number}"}
    body = {"name": "fuzz.take"}
    answered = await _all(attacker, "POST", "/tasks", json=body, headers=once)
    return len({one.json()["id"] for one in answered if one.status_code == 201}), _told(answered)


async def _role(attacker: Attacker, number: int) -> tuple[int, Counter[int]]:
    """a role under one ETag:"""
    page = await attacker.ask("GET", "/users", params={"q": "out@example.com"})
    path = f"/users/{page.json()['items'][0]['id']}"
    tag = (await attacker.ask("GET", path)).headers["ETag"]
    role = {"role": ("viewer", "operator")[number % 2], "name": str(number)}
    answered = await _all(attacker, "PATCH", path, json=role, headers={"If-Match": tag})
    found = _told(answered)
    return found[200], found


async def _view(attacker: Attacker, number: int) -> tuple[int, Counter[int]]:
    """a saved view of one name:"""
    body = {"name": f"view {number}", "of": "tasks"}
    answered = await _all(attacker, "POST", "/saved-views", json=body)
    for one in answered:
        if one.status_code == 201:
            await attacker.ask("DELETE", f"/saved-views/{one.json()['id']}")
    found = _told(answered)
    return found[201], found


async def _run(addresses: Sequence[str], options: argparse.Namespace) -> None:
    attacker = Attacker(addresses)
    try:
        await attacker.sign_in()
        if "answers" in options.parts:
            await answers(attacker, options.rounds)
        if "races" in options.parts:
            out = {"email": "out@example.com", "password": PASSWORD}
            await attacker.ask("POST", "/users", json=out)
            await races(attacker, options.rounds)
    finally:
        await attacker.close()


def main() -> None:
    """Make a console, attack it, throw it away."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "redis", "postgres"], default="sqlite")
    parser.add_argument("--parts", nargs="+", default=["answers", "races"])
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conveyor-attack-")))
        where = stack.enter_context(environment(options.store, folder))
        where["CONVEYOR_TRUSTED_PROXIES"] = "127.0.0.0/8"
        replicas = 1 if options.store == "sqlite" else 2
        addresses = [stack.enter_context(served(folder, where, f"{n}")) for n in range(replicas)]
        asyncio.run(_run(addresses, options))


if __name__ == "__main__":
    main()
