"""Lanes and gates on Redis beyond the conformance suite: the mirror, the cost, the layout."""

import asyncio
import random
from math import inf
from typing import Any

import msgspec
import pytest

from conveyor.brokers.base import Filter, Step
from conveyor.brokers.redis.scripts import put_together
from conveyor.brokers.url import connect
from conveyor.core.gates import Gate, GateState, Refusal, admit, reserve
from conveyor.core.outcome import Unroutable
from conveyor.core.task import Fair, State, TaskInfo, Terms, Unique
from conveyor.testing.conformance.gates_rig import (
    ME,
    gated,
    line,
    per_second,
    pushed,
    slots,
    take,
    taken,
)
from conveyor.testing.conformance.rig import Capabilities, Rig, failure, ok
from tests.faults import FaultProxy
from tests.servers import ValkeyServer
from tests.unit.redis_kit import rig

__all__ = ["rig"]

ADMIT = b"""-- include: clock terms gates
local gates, states_after = cmsgpack.unpack(ARGV[2]), {}
local gate, why, at = admit(gates, ARGV[3] .. root)
if gate then return { gate[LIMIT], why, at and string.format('%.17g', at) or '' } end
for k, one in ipairs(gates) do
  local state = state_of(one)
  states_after[2 * k - 1] = string.format('%.17g', tat_of(state))
  states_after[2 * k] = running_of(state)
end
return states_after
"""
ID = b"0123456789abcdef"
A_LOOK_AROUND = 20
"""Commands that a step may add once a second, to see what its worker's other queues are up to."""


@pytest.fixture
def client(valkey: ValkeyServer) -> Any:
    with valkey.client() as client:
        client.flushall()
        yield client


def calls(client: Any) -> int:
    """Return how many commands scripts and clients have run so far."""
    stats = client.info("commandstats")
    return sum(entry["calls"] for entry in stats.values())


class TestMirror:
    """lua/_gates.lua decides what core.gates decides: to the last bit, on the same states."""

    @pytest.mark.parametrize("seed", range(8))
    def test_admission(self, client: Any, seed: int) -> None:
        dice = random.Random(seed)
        source = put_together(ADMIT.decode())
        for number in range(150):
            now = round(1_700_000_000_000 + dice.random() * 1e6)
            cases = [self._case(dice, f"limit{n}", now / 1000) for n in range(dice.randint(1, 3))]
            gates = [gate for gate, _, _ in cases]
            states = [state for _, state, _ in cases]
            holds = [held for _, _, held in cases]
            shared = f"{{{number}}}:"
            for gate, state, held in cases:
                self._write(client, shared, gate, state, held)
            packed = msgspec.msgpack.encode(gates)
            reply = client.eval(source, 2, "{r}", shared, now, packed, ID)
            expected = admit(gates, states, now / 1000, holds=holds)
            if isinstance(expected, Refusal):
                at = b"" if expected.at is None else float(reply[2])
                assert (reply[0].decode(), reply[1].decode()) == (expected.gate.limit, expected.why)
                assert at == (b"" if expected.at is None else expected.at)
            else:
                seen = [(float(tat), int(n)) for tat, n in zip(*[iter(reply)] * 2, strict=True)]
                assert seen == [(state.tat, state.running) for state in expected]

    @pytest.mark.parametrize("seed", range(4))
    async def test_reservations(self, rig: Rig, client: Any, seed: int) -> None:
        dice = random.Random(seed)
        gate = per_second(dice.choice([0.3, 7.0, 900.0]), burst=5.0)
        state = GateState()
        for _ in range(60):
            taking = msgspec.structs.replace(gate, cost=dice.choice([1.0, 2.5, 5.0]))
            now = round(rig.clock.time() * 1000) / 1000
            state, seconds = reserve(taking, state, now)
            assert await rig.broker.gates.reserve(taking) == seconds
            rig.clock.advance(dice.choice([0.0, 0.001, 0.5]))

    @staticmethod
    def _case(dice: random.Random, limit: str, now: float) -> tuple[Gate, GateState, bool]:
        burst = dice.choice([1.0, 2.0, 7.5, 100.0])
        gate = Gate(
            limit,
            dice.choice(["", "k"]),
            rate=dice.choice([0.0, 0.1, 3.0, 10.0, 1000.0 / 3]),
            burst=burst,
            cost=dice.choice([burst, 1.0, burst / 3]),
            most=dice.randint(1, 4),
            line=dice.random() < 0.3,
        )
        state = GateState(
            tat=dice.choice([0.0, now + dice.uniform(-1, 3), now, now + 0.025]),
            running=dice.randint(0, 4),
            closed_until=dice.choice([0.0] * 6 + [now - 1, now, now + dice.random(), inf]),
            rate=dice.choice([None, None, 0.7, 50.0]),
            most=dice.choice([None, None, 0, 3]),
        )
        held = gate.line and gate.rate == 0 and state.running > 0 and dice.random() < 0.5
        return gate, state, held

    @staticmethod
    def _write(client: Any, shared: str, gate: Gate, state: GateState, held: bool) -> None:
        if state.tat:
            client.zadd(f"{shared}tat", {gate.id: state.tat})
        for n in range(state.running):
            member = ID + b"{r}" if held and n == 0 else b"%016d{r}" % n
            client.zadd(f"{shared}slots:{gate.id}", {member: n})
        if state.closed_until:
            client.zadd(f"{shared}shut", {gate.id: state.closed_until})
        if state.rate is not None or state.most is not None:
            words = ["-" if n is None else repr(n) for n in (state.rate, state.most)]
            client.hset(f"{shared}tuned", gate.limit, f"{' '.join(words)} 0")


class TestCost:
    async def test_a_gated_step_is_one_command(self, valkey: ValkeyServer, redis_url: str) -> None:
        """Settling, admitting and leasing 200 gated tasks: one round trip, one script."""
        with FaultProxy.before(valkey.url) as proxy:
            rig = Rig(lambda _: connect(proxy.url_for(redis_url)), Capabilities())
            await rig.start()
            await pushed(rig, 400, slots(200), per_second(1e6, burst=1e3))
            await rig.worker(seconds=600)
            leases = (await rig.step(want=200)).leases
            proxy.restart_numbers()
            settlements = [rig.settlement(lease, ok()) for lease in leases]
            reply = await rig.broker.step(Step("w", ["q"], 200, settlements))
            assert len(reply.leases) == 200
            assert proxy.counts == {"EVALSHA": 1}
            await rig.stop()

    async def test_plain_tasks_cost_commands_per_step_and_none_each(
        self, rig: Rig, client: Any
    ) -> None:
        spent = []
        await rig.worker()
        await rig.step()
        for number in (10, 200):
            await rig.push(*(rig.task() for _ in range(number)))
            before = calls(client)
            leases = (await rig.step(want=number + 1)).leases
            await rig.step(*(rig.settlement(lease, ok()) for lease in leases))
            spent.append(calls(client) - before)
        assert spent[1] <= spent[0] + A_LOOK_AROUND

    async def test_a_turn_costs_the_same_among_many_lanes(self, rig: Rig, client: Any) -> None:
        spent = []
        for lanes in (20, 5_000):
            queue = f"q{lanes}"
            tasks = [gated(rig, fair=str(n), queue=queue) for n in range(lanes)]
            await rig.push(*tasks, *(gated(rig, fair=str(n), queue=queue) for n in range(lanes)))
            await rig.worker()
            await rig.step(want=1, queues=[queue])
            before = calls(client)
            assert len((await rig.step(want=10, queues=[queue])).leases) == 10
            spent.append(calls(client) - before)
        assert spent[1] <= spent[0] + A_LOOK_AROUND

    async def test_a_token_costs_the_same_however_many_lanes_wait_for_it(
        self, rig: Rig, client: Any
    ) -> None:
        """Lanes wait at their gate, not each for itself: no herd when it opens."""
        spent = []
        for lanes in (20, 3_000):
            gate = per_second(1, key=str(lanes))
            await rig.push(*(gated(rig, gate, fair=str(n)) for n in range(lanes)))
            assert len(await take(rig)) == 1
            rig.clock.advance(1)
            await rig.worker()
            before = calls(client)
            assert len((await rig.step()).leases) == 1
            spent.append(calls(client) - before)
            await rig.broker.cancel([info.id for info in await self._queued(rig)])
        assert spent[1] <= spent[0] + A_LOOK_AROUND

    @staticmethod
    async def _queued(rig: Rig) -> list[TaskInfo]:
        return await rig.broker.inspector.tasks(Filter(states=(State.QUEUED,), limit=10_000))

    async def test_first_looks_of_many_lanes_are_cut_into_scripts(self, rig: Rig) -> None:
        await pushed(rig, 1, slots())
        (holder,) = await take(rig)
        await rig.push(*(gated(rig, slots(), fair=str(n)) for n in range(2_500)))
        plain = await rig.pushed()
        assert taken(await take(rig)) == [plain.id]
        await rig.settle(holder, ok())
        assert len(await take(rig)) == 1
        assert await rig.is_healthy()


class TestLayout:
    async def test_nothing_is_left_of_finished_gated_tasks(self, rig: Rig, client: Any) -> None:
        rule = Unique("u", "done")
        gates = (slots(2), per_second(5), line("x"))
        terms = Terms(gates, Fair("f", 2), "0" * 32, rule)
        for n in range(3):
            await rig.push(rig.task(terms=terms))
            rig.clock.advance(1)
            (lease,) = await take(rig)
            if n:
                await rig.settle(lease, failure(delay=1))
                rig.clock.advance(1)
                (lease,) = await take(rig)
            await rig.settle(lease, ok())
        rig.clock.advance(60)
        await rig.broker.tidy()
        left = {key.decode().partition("}")[2] for key in client.scan_iter()}
        kept = {":jb", ":fb", ":ev", ":evn", ":w", ":queues", ":wq:w"}
        assert {key for key in left if key[:3] not in {":j:", ":f:"}} == kept

    async def test_a_dropped_task_is_pruned_like_a_success(self, rig: Rig) -> None:
        await pushed(rig, 2, slots(on_full="drop"))
        (lease,) = await take(rig)
        await rig.settle(lease, ok())
        assert await rig.counts() == {State.SUCCEEDED: 1, State.SKIPPED: 1}
        rig.clock.advance(2 * 86_400)
        while (await rig.broker.tidy()).pruned:
            pass
        assert await rig.counts() == {}


class TestLanes:
    async def test_a_queue_that_is_paused_keeps_no_slot_from_another(self, rig: Rig) -> None:
        (first,) = await pushed(rig, 1, slots())
        there = gated(rig, slots(), queue="r", priority=9)
        await rig.push(there)
        (lease,) = await take(rig)
        assert lease.task == first
        (second,) = await pushed(rig, 1, slots())
        await rig.worker()
        await rig.step(queues=["q", "r"])
        await rig.broker.pause("r", ME)
        await rig.settle(lease, ok())
        assert taken(await take(rig)) == [second.id]

    async def test_a_slot_freed_here_rings_there(self, rig: Rig) -> None:
        await pushed(rig, 1, slots())
        (lease,) = await take(rig)
        await rig.push(gated(rig, slots(), queue="r"))
        rung = asyncio.Event()
        async with rig.broker.listen("v", ["r"], rung.set):
            await rig.worker("v")
            await rig.step(worker="v", queues=["r"])
            rung.clear()
            await rig.settle(lease, ok())
            await asyncio.wait_for(rung.wait(), 3)
            assert len((await rig.step(worker="v", queues=["r"])).leases) == 1

    @pytest.mark.parametrize("how", ["open", "tune"])
    async def test_a_limit_that_opens_rings(self, rig: Rig, how: str) -> None:
        await pushed(rig, 2, slots())
        (_,) = await take(rig)
        await rig.broker.gates.close("slots", None, None, ME)
        await rig.broker.gates.tune("slots", most=2 if how == "open" else None)
        rung = asyncio.Event()
        async with rig.broker.listen("w", ["q"], rung.set):
            await rig.worker()
            await rig.step()
            if how == "tune":
                await rig.broker.gates.open("slots", None)
                await rig.step()
                rung.clear()
                await rig.broker.gates.tune("slots", most=2)
            else:
                await rig.broker.gates.open("slots", None)
            await asyncio.wait_for(rung.wait(), 3)
            assert len((await rig.step()).leases) == 1

    async def test_a_worker_without_a_free_slot_hands_the_ring_on(self, rig: Rig) -> None:
        rung = asyncio.Event()
        async with (
            rig.broker.listen("full", ["q"], lambda: None),
            rig.broker.listen("free", ["q"], rung.set),
        ):
            for worker in ("full", "free"):
                await rig.worker(worker)
                await rig.step(worker=worker)
            await pushed(rig, 1, slots())
            rung.clear()
            # Whoever was rung: the one that cannot take it hands on, and does not ring itself.
            await rig.broker.step(Step("full", ("q",), 5, (), 0))
            await rig.broker.step(Step("full", ("q",), 5, (), 0))
            assert len((await rig.step(worker="free")).leases) == 1

    async def test_a_parked_task_is_adopted_through_its_gates(self, rig: Rig) -> None:
        await pushed(rig, 2, slots())
        (lease,) = await take(rig)
        await rig.settle(lease, Unroutable())
        (holder,) = await take(rig)
        assert await rig.broker.adopt("w", ["work"], ["q"], 5) == []
        await rig.settle(holder, ok())
        (adopted,) = await rig.broker.adopt("w", ["work"], ["q"], 5)
        assert adopted.task == lease.task
        assert await rig.is_healthy()

    async def test_a_tie_of_costs_wakes_nobody_for_ever(self, rig: Rig) -> None:
        """Two lanes at two gates, each admitted by the gate at which the other one waits."""
        cheap = per_second(1, burst=10, cost=1.0)
        dear = msgspec.structs.replace(cheap, cost=8.0)
        first = Gate("other", rate=1.0, burst=10.0, cost=8.0)
        second = msgspec.structs.replace(first, cost=1.0)
        for _ in range(2):
            await rig.broker.gates.reserve(cheap)
            await rig.broker.gates.reserve(second)
        await rig.push(gated(rig, dear, second, fair="a"), gated(rig, cheap, first, fair="b"))
        assert await take(rig) == []
        rig.clock.advance(20)
        assert len(await take(rig)) == 2

    async def test_an_unknown_task_does_not_block_its_lane(self, rig: Rig, client: Any) -> None:
        """A failover may lose a record and keep its place, or the other way round."""
        tasks = await pushed(rig, 2, slots(5))
        (bucket,) = client.keys("*:j:*")
        client.hdel(bucket, bytes.fromhex(tasks[0].id.replace("-", "")))
        assert taken(await take(rig)) == [tasks[1].id]


class TestDoctor:
    async def violations(self, rig: Rig) -> set[str]:
        return {found.invariant for found in await rig.broker.inspector.check()}

    async def test_a_lane_nobody_finds(self, rig: Rig, client: Any) -> None:
        await pushed(rig, 1, slots())
        client.delete(*client.keys("*:lanes"))
        assert await self.violations(rig) == {"L1"}

    async def test_a_lane_nobody_wakes(self, rig: Rig, client: Any) -> None:
        await pushed(rig, 2, per_second(1))
        assert len(await take(rig)) == 1
        assert await rig.is_healthy()
        client.delete(*client.keys("*:later"))
        assert await self.violations(rig) == {"L1"}

    async def test_slots(self, rig: Rig, client: Any) -> None:
        _, waiting = await pushed(rig, 2, slots())
        (lease,) = await take(rig)
        (key,) = client.keys("*:slots:*")
        ((member, at),) = client.zrange(key, 0, -1, withscores=True)
        client.zadd(key, {bytes.fromhex(waiting.id.replace("-", "")) + member[16:]: at})
        assert await self.violations(rig) == {"L2", "L3"}
        client.zrem(key, member)
        assert await self.violations(rig) == {"L2"}
        await rig.settle(lease, ok())


async def test_gates_of_a_cluster_belong_to_the_queue(rig: Rig, client: Any) -> None:
    """A script there may touch one slot only, so limits count per queue."""
    broker: Any = rig.broker
    broker._store.link.spread = True
    await rig.push(gated(rig, slots()), gated(rig, slots(), queue="r"))
    leases = [*await take(rig), *(await rig.step(queues=["r"])).leases]
    assert len(leases) == 2
    (info,) = await rig.broker.gates.look()
    assert info.state.running == 2
    assert set(info.holders) == {lease.task.id for lease in leases}
    await rig.broker.gates.close("slots", None, None, ME)
    tags = {key.partition(b"{")[2].partition(b"}")[0] for key in client.keys("*:shut")}
    assert len(tags) == 3
    assert await rig.is_healthy()
