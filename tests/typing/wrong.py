"""Calls that a type checker must refuse: each line marked `# wrong` is an error, no other is."""

from __future__ import annotations

from tests.typing.api import add, app, thumbnail


async def misuse() -> None:
    await thumbnail.enqueue(1)  # wrong
    await thumbnail.enqueue("a", height=2)  # wrong
    await thumbnail.with_options(delay=1).enqueue()  # wrong
    await thumbnail.with_options(colour="red").enqueue("a")  # wrong
    add.enqueue_sync("1")  # wrong
    add.bind(1, 2, 3)  # wrong
    await app.enqueue_many([add.bind("x")])  # wrong
    text: str = await (await add.enqueue(1)).result()  # wrong
    print(text)


async def misuse_workflows() -> None:
    flow = app.workflow("w")
    picture = flow.add(thumbnail, "a.png")
    flow.add(add, picture.result)  # wrong
    flow.add(thumbnail, "a.png", height=3)  # wrong
    flow.add(add, 1).after(picture, mode="sometimes")  # wrong
