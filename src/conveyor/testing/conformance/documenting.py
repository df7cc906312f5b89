"""Documents with versions, and tallies."""

from __future__ import annotations

import asyncio

from conveyor.testing.conformance.rig import Rig


async def test_a_document_is_stored_and_replaced_by_whoever_knows_its_version(rig: Rig) -> None:
    documents = rig.broker.documents
    assert await documents.put("schedule", "nightly", b"one", 0) == 1
    assert await documents.put("schedule", "nightly", b"two", 1) == 2
    found = (await documents.get("schedule", ["nightly", "unknown"]))["nightly"]
    assert (found.kind, found.id, found.version, found.body) == ("schedule", "nightly", 2, b"two")


async def test_a_stale_version_changes_nothing(rig: Rig) -> None:
    documents = rig.broker.documents
    await documents.put("schedule", "nightly", b"one", 0)
    assert await documents.put("schedule", "nightly", b"mine", 0) is None
    assert await documents.put("schedule", "nightly", b"mine", 7) is None
    assert await documents.put("schedule", "other", b"mine", 3) is None
    assert (await documents.get("schedule", ["nightly"]))["nightly"].body == b"one"
    assert await documents.get("schedule", ["other"]) == {}


async def test_kinds_do_not_meet(rig: Rig) -> None:
    documents = rig.broker.documents
    await documents.put("a", "x", b"1", 0)
    await documents.put("b", "x", b"2", 0)
    assert [document.body for document in await documents.list("a")] == [b"1"]
    assert await documents.delete("a", "x")
    assert [document.body for document in await documents.list("b")] == [b"2"]


async def test_documents_are_listed_by_id_and_page_by_page(rig: Rig) -> None:
    documents = rig.broker.documents
    names = ["b", "a", "ä", "B", "a b", "a\nb", "0"]
    for name in names:
        await documents.put("kind", name, name.encode(), 0)
    listed: list[str] = []
    while page := await documents.list("kind", after=listed[-1] if listed else "", limit=3):
        listed += [document.id for document in page]
        assert len(page) <= 3
    assert listed == sorted(names, key=str.encode)


async def test_deleting_may_insist_on_a_version(rig: Rig) -> None:
    documents = rig.broker.documents
    await documents.put("kind", "x", b"1", 0)
    assert not await documents.delete("kind", "x", 2)
    assert await documents.delete("kind", "x", 1)
    assert not await documents.delete("kind", "x")
    assert await documents.put("kind", "x", b"again", 0) == 1


async def test_of_many_who_race_one_wins(rig: Rig) -> None:
    others = [rig.broker, *([await rig.another()] if rig.capabilities.shared else [])]
    answers = await asyncio.gather(
        *(others[n % len(others)].documents.put("kind", "x", b"%d" % n, 0) for n in range(8))
    )
    assert sorted(answers, key=str) == [1] + [None] * 7
    (winner,) = (n for n, answer in enumerate(answers) if answer == 1)
    assert (await rig.broker.documents.get("kind", ["x"]))["x"].body == b"%d" % winner


async def test_a_tally_counts_distinct_members(rig: Rig) -> None:
    tallies = rig.broker.tallies
    assert await tallies.add([("join", "a"), ("join", "b"), ("other", "a")]) == [2, 2, 1]
    assert await tallies.add([("join", "b"), ("join", "c"), ("join", "c")]) == [3, 3, 3]
    assert await tallies.members("join") == ["a", "b", "c"]
    assert await tallies.members("nothing") == []


async def test_a_dropped_tally_begins_anew(rig: Rig) -> None:
    tallies = rig.broker.tallies
    await tallies.add([("join", "a"), ("kept", "a")])
    await tallies.drop(["join", "unknown"])
    assert await tallies.members("join") == []
    assert await tallies.add([("join", "b"), ("kept", "b")]) == [1, 2]


async def test_of_all_arrivals_exactly_one_call_sees_the_last(rig: Rig) -> None:
    brokers = [rig.broker, *([await rig.another()] if rig.capabilities.shared else [])]
    answers = await asyncio.gather(
        *(brokers[n % len(brokers)].tallies.add([("join", str(n))]) for n in range(50))
    )
    assert sorted(count for (count,) in answers) == list(range(1, 51))


async def test_a_large_tally(rig: Rig) -> None:
    arrivals = [("join", f"{n:05}") for n in range(3_000)]
    assert await rig.broker.tallies.add(arrivals) == [3_000] * 3_000
    assert await rig.broker.tallies.members("join") == [member for _, member in arrivals]
