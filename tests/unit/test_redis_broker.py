"""The Redis broker beyond the conformance suite: its layout, its cost, its retention."""

import asyncio
from typing import Any

import pytest

from conveyor.brokers.base import RETENTION_SECONDS, Filter, Step, WorkerInfo
from conveyor.brokers.redis.broker import RedisBroker
from conveyor.brokers.redis.tidying import Tidying
from conveyor.brokers.url import connect
from conveyor.core.errors import TaskNotFound
from conveyor.core.outcome import Interrupted, Lost, Snoozed
from conveyor.core.task import NewTask, State
from conveyor.system import new_id
from conveyor.testing.conformance.rig import Capabilities, Rig, failure, ids, ok
from tests.faults import FaultProxy
from tests.servers import ValkeyServer
from tests.unit.redis_kit import rig

__all__ = ["rig"]

HOUR = 3_600.0


@pytest.fixture
def keys(valkey: ValkeyServer, redis_url: str) -> "Keys":
    return Keys(valkey, redis_url.partition("namespace=")[2])


class Keys:
    """What lies in the server, seen from the side."""

    def __init__(self, server: ValkeyServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace

    def ask(self, *words: Any) -> Any:
        with self._server.client() as client:
            return client.execute_command(*words)

    def name(self, key: str, queue: str = "q") -> str:
        return f"{{{self._namespace}:{queue}}}{key}"

    def all(self) -> set[str]:
        found = self.ask("KEYS", f"{{{self._namespace}*")
        return {key.decode().partition("}")[2] for key in found}


def uuid7_at(seconds: float, tail: int = 0) -> str:
    """Return an id that was made at this time."""
    text = f"{round(seconds * 1000):012x}7{tail:019x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-8{text[17:20]}-{text[20:]}"


class TestCost:
    async def test_a_step_is_one_command(self, valkey: ValkeyServer, redis_url: str) -> None:
        """Settling, promoting and leasing 500 tasks: one round trip, one script."""
        with FaultProxy.before(valkey.url) as proxy:
            rig = Rig(lambda _: connect(proxy.url_for(redis_url)), Capabilities())
            await rig.start()
            await rig.push(*(rig.task() for _ in range(1_000)))
            await rig.worker(seconds=600)
            leases = (await rig.step(want=500)).leases
            proxy.restart_numbers()
            settlements = [rig.settlement(lease, ok()) for lease in leases]
            reply = await rig.broker.step(Step("w", ["q"], 500, settlements))
            assert len(reply.leases) == 500
            assert proxy.counts == {"EVALSHA": 1}
            await rig.stop()

    async def test_a_thousand_pushes_are_one_command(
        self, valkey: ValkeyServer, redis_url: str
    ) -> None:
        with FaultProxy.before(valkey.url) as proxy:
            rig = Rig(lambda _: connect(proxy.url_for(redis_url)), Capabilities())
            await rig.start()
            await rig.pushed()
            proxy.restart_numbers()
            await rig.push(*(rig.task() for _ in range(1_000)))
            assert proxy.counts == {"EVALSHA": 1}
            await rig.stop()

    async def test_the_holds_are_a_hash_table(self, rig: Rig, keys: Keys) -> None:
        """In the compact form of small hashes each look-up would be a walk: 3 us more a task."""
        await rig.pushed()
        await rig.lease()
        assert keys.ask("OBJECT", "ENCODING", keys.name(":i")) == b"hashtable"

    async def test_a_finished_task_leaves_nothing_but_its_record(
        self, rig: Rig, keys: Keys
    ) -> None:
        await rig.pushed()
        await rig.settle(await rig.lease(), ok())
        await rig.pushed(key="k")
        await rig.settle(await rig.lease(), failure(delay=0))
        await rig.settle(await rig.lease(), Snoozed(0))
        await rig.settle(await rig.lease(), ok())
        (bucket,) = {key[3:] for key in keys.all() if key.startswith(":j:")}
        kept = {f":j:{bucket}", f":f:{bucket}", ":jb", ":fb", ":keys", ":kx", ":ev", ":evn"}
        assert keys.all() - {":w", ":queues", ":wq:w"} == kept

    async def test_what_was_settled_twice_leaves_no_marks(self, rig: Rig, keys: Keys) -> None:
        task = await rig.pushed()
        for _ in range(3):
            await rig.broker.cancel([task.id])
            await rig.broker.requeue([task.id])
        assert await rig.waiting_ids() == [task.id]
        assert await rig.waiting_ids() == []
        assert ":tomb" not in keys.all()


class TestLayout:
    async def test_all_keys_of_a_queue_share_a_slot(self, rig: Rig, keys: Keys) -> None:
        await rig.pushed(key="k", delay=5)
        await rig.pushed(queue="r{x}y")
        await rig.lease(queues=["r{x}y"])
        everything = keys.ask("KEYS", "*")
        tags = {key.partition(b"{")[2].partition(b"}")[0] for key in everything}
        namespace = keys.name("")[1:].partition(":")[0].encode()
        assert tags == {namespace, namespace + b":q", namespace + b":r{x"}

    async def test_namespaces_do_not_see_each_other(self, rig: Rig, valkey: ValkeyServer) -> None:
        await rig.pushed()
        other = Rig(
            lambda clock: connect(f"{valkey.url}?namespace=other", clock=clock), Capabilities()
        )
        await other.start()
        assert await other.broker.inspector.queue_names() == []
        assert await other.counts() == {}
        await other.stop()

    async def test_ids_of_many_hours_in_one_push(self, rig: Rig) -> None:
        now = rig.clock.time()
        tasks = [
            rig.task(id=uuid7_at(now - hour * HOUR, hour), priority=hour % 3) for hour in range(30)
        ]
        await rig.push(*tasks)
        await rig.push(*tasks[::2], rig.task(id=uuid7_at(now, 99)))
        assert await rig.counts() == {State.QUEUED: 31}
        leased = await rig.waiting_ids(want=20) + await rig.waiting_ids(want=20)
        assert sorted(leased) == sorted([*ids(tasks), uuid7_at(now, 99)])
        listed = await rig.broker.inspector.tasks(Filter(limit=5))
        assert [info.id for info in listed] == sorted(leased, reverse=True)[:5]

    async def test_ids_tell_the_time_only_when_it_is_right(self, rig: Rig, keys: Keys) -> None:
        near = rig.task(id=uuid7_at(rig.clock.time() - 0.05))
        far = rig.task(id=uuid7_at(rig.clock.time() - 5))
        await rig.push(near)
        await rig.push(far)
        items = keys.ask("LRANGE", keys.name(":q:5"), 0, -1)
        assert [len(item) for item in items] == [16, 22]
        assert await rig.waiting_ids() == [near.id, far.id]

    async def test_what_is_no_uuid_is_not_found(self, rig: Rig) -> None:
        for odd in ("", "nonsense", "0" * 31, new_id().upper(), new_id().replace("-", "")):
            with pytest.raises(TaskNotFound):
                await rig.broker.inspector.get(odd)
            assert await rig.broker.cancel([odd]) == {}

    async def test_more_than_a_thousand_can_be_leased_at_once(self, rig: Rig) -> None:
        await rig.push(*(rig.task() for _ in range(2_300)))
        assert len(await rig.waiting_ids(want=2_200)) == 2_200
        assert await rig.counts() == {State.QUEUED: 100, State.RUNNING: 2_200}

    async def test_large_tasks_come_in_several_replies(self, rig: Rig) -> None:
        tasks = [rig.task(args=[bytes(200_000)]) for _ in range(60)]
        await rig.push(*tasks)
        assert await rig.waiting_ids(want=60) == ids(tasks)

    async def test_ten_thousand_cancelled_tasks_do_not_hide_a_live_one(self, rig: Rig) -> None:
        tasks = [rig.task() for _ in range(12_000)]
        await rig.push(*tasks)
        await rig.broker.cancel(ids(tasks[:-1]))
        assert await rig.waiting_ids(want=3) == [tasks[-1].id]

    async def test_only_the_last_thousand_executions_are_kept(self, rig: Rig, keys: Keys) -> None:
        task = await rig.pushed()
        for _ in range(3):
            await rig.settle(await rig.lease(), Interrupted())
        packed = keys.ask("LINDEX", self._history(keys), 0)
        keys.ask("RPUSH", self._history(keys), *[packed] * 1_200)
        await rig.settle(await rig.lease(), Interrupted())
        executions = (await rig.info(task)).executions
        assert len(executions) == 1_000
        assert executions[-1].number == 4

    @staticmethod
    def _history(keys: Keys) -> bytes:
        (found,) = keys.ask("KEYS", keys.name(":x:?*"))
        return bytes(found)


class TestRetention:
    async def test_a_bucket_with_living_tasks_is_emptied_around_them(self, rig: Rig) -> None:
        """They share the hash with successes that are pruned."""
        scheduled = await rig.pushed(delay=400 * 86_400.0)
        dead = await rig.pushed()
        await rig.settle(await rig.lease(), failure(final=True))
        done = [rig.task() for _ in range(5)]
        await rig.push(*done)
        for _ in done:
            await rig.settle(await rig.lease(), ok())
        rig.clock.advance(RETENTION_SECONDS + 1)
        assert [(await rig.broker.tidy(2)).pruned for _ in range(4)] == [2, 2, 1, 0]
        assert await rig.counts() == {State.SCHEDULED: 1, State.FAILED: 1}
        assert (await rig.info(scheduled)).state is State.SCHEDULED
        assert (await rig.info(dead)).state is State.FAILED
        assert await rig.is_healthy()

    async def test_nothing_is_left_when_all_is_pruned(self, rig: Rig, keys: Keys) -> None:
        await rig.pushed(key="k")
        await rig.settle(await rig.lease(), ok())
        await rig.pushed(key="l")
        await rig.settle(await rig.lease(), failure(final=True))
        rig.clock.advance(40 * 86_400.0)
        await rig.broker.held()
        while (await rig.broker.tidy()).pruned:
            pass
        assert keys.all() <= {":ev", ":evn", ":queues", ":w", ":wq:w", ":pending", ":workers"}

    async def test_too_much_goes_before_its_time(self, rig: Rig) -> None:
        """256 MB of finished records, or a day: the oldest go, the last two minutes stay."""
        tasks = []
        for minute in range(8):
            now = rig.clock.time()
            batch = [rig.task(id=uuid7_at(now, 10 * minute + n)) for n in range(3)]
            await rig.push(*batch)
            for _ in batch:
                await rig.settle(await rig.lease(), ok("x" * 1_000))
            tasks += batch
            rig.clock.advance(70)
        broker = rig.broker
        assert isinstance(broker, RedisBroker)
        tidying = Tidying(broker._store, most_bytes=0)
        assert (await tidying.tidy(1_000)).pruned == 18
        assert (await tidying.tidy(1_000)).pruned == 0
        assert await rig.counts() == {State.SUCCEEDED: 6}
        assert await rig.final(tasks[-1]) is not None
        generous = Tidying(broker._store, most_bytes=10**9)
        await generous.tidy(1_000)
        assert await rig.counts() == {State.SUCCEEDED: 6}

    async def test_a_result_nobody_wants_is_not_stored(self, rig: Rig) -> None:
        task = await rig.pushed(result_ttl=0.0)
        await rig.settle(await rig.lease(), ok("never read"))
        final = await rig.final(task)
        assert final is not None
        assert (final.state, final.result) == (State.SUCCEEDED, None)
        assert await rig.is_healthy()


class TestLeases:
    async def test_a_lease_the_namespace_has_lost_is_swept(self, rig: Rig, keys: Keys) -> None:
        """In a cluster the namespace's node may fail over alone and lose the last moments."""
        task = await rig.pushed()
        await rig.lease()
        namespace = keys.name("").partition(":")[0] + "}"
        keys.ask("DEL", f"{namespace}:w", f"{namespace}:wq:w")
        assert not (await rig.broker.renew(["w"], 15))["w"].alive
        (violation,) = await rig.broker.inspector.check()
        assert (violation.invariant, violation.ids) == ("I9", (task.id,))
        rig.clock.advance(120)
        await rig.broker.tidy()
        (holding,) = await rig.broker.held()
        assert await rig.settle(holding.lease, Lost())
        assert await rig.is_healthy()

    async def test_a_swept_worker_is_swept_in_every_queue(self, rig: Rig) -> None:
        await rig.pushed(queue="a")
        await rig.pushed(queue="b")
        await rig.worker(seconds=10)
        assert len((await rig.step(want=1, queues=["a", "b"])).leases) == 1
        assert len((await rig.step(want=1, queues=["b", "a"])).leases) == 1
        rig.clock.advance(11)
        assert {holding.lease.task.queue for holding in await rig.broker.held()} == {"a", "b"}
        rig.clock.jump(-11)
        await rig.pushed(queue="a")
        assert not (await rig.step(queues=["a", "b", "new"])).leases
        assert await rig.broker.adopt("w", ["work"], ["a"], 1) == []

    async def test_swept_workers_with_nothing_are_asked_for_once(
        self, rig: Rig, keys: Keys
    ) -> None:
        said = WorkerInfo(id="w", host="alpha", pid=1, started_at=rig.clock.time())
        await rig.broker.renew(["w"], 10, said)
        rig.clock.advance(11)
        assert await rig.broker.held() == []
        assert not keys.all() & {":pending", ":workers", ":wq:w"}

    async def test_a_worker_that_does_not_listen_gets_no_rings(self, rig: Rig, keys: Keys) -> None:
        await rig.worker()
        await rig.step()
        assert ":idle" not in keys.all()
        async with rig.broker.listen("w", ["q"], lambda: None):
            await rig.step()
            assert keys.ask("SMEMBERS", keys.name(":idle")) == {b"w"}
        assert ":idle" not in keys.all()

    async def test_a_dead_worker_does_not_swallow_the_ring(self, rig: Rig, keys: Keys) -> None:
        rung = asyncio.Event()
        async with rig.broker.listen("w", ["q"], rung.set):
            await rig.worker()
            await rig.step()
            keys.ask("SADD", keys.name(":idle"), *[f"dead{n}" for n in range(20)])
            await rig.pushed()
            await asyncio.wait_for(rung.wait(), 2)

    async def test_new_queues_are_listened_to(self, rig: Rig) -> None:
        """A worker that serves every queue learns of new ones while it listens."""
        rung = asyncio.Event()
        queues = ["q"]
        async with rig.broker.listen("w", queues, rung.set):
            await rig.worker()
            queues.append("later")
            await rig.step(queues=queues)
            await rig.pushed(queue="later")
            await asyncio.wait_for(rung.wait(), 3)


class TestEvents:
    async def test_old_events_are_cut(self, rig: Rig, keys: Keys) -> None:
        await rig.push(*(rig.task() for _ in range(1_000)))
        keys.ask("SET", keys.name(":evn"), 500_000)
        for _ in range(200):
            await rig.push(*(rig.task() for _ in range(10)))
        events = await rig.broker.inspector.events(limit=10_000)
        assert len(events) == 2_000

    async def test_cursors_of_a_wiped_server_begin_anew(self, rig: Rig, keys: Keys) -> None:
        await rig.push(*(rig.task() for _ in range(5)))
        last = (await rig.broker.inspector.events())[-1].cursor
        keys.ask("FLUSHALL")
        assert await rig.broker.inspector.events(last) == []
        task = rig.task()
        await rig.broker.push([NewTask(task)])
        assert [event.id for event in await rig.broker.inspector.events(last)] == [task.id]
