"""The app that consoles of these tests serve."""

from conveyor import Conveyor

app = Conveyor()


@app.task(name="shop.greet")
async def greet(name: str) -> str:
    return f"hello {name}"
