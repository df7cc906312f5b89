"""The app that `python -m tests.console.fuzzing` serves: a bit of everything."""

from conveyor import Conveyor, Retry
from conveyor.limits import Concurrency

app = Conveyor()


@app.task(name="fuzz.take", concurrency=Concurrency(2, name="fuzz.takers"))
async def take(*args: object, **kwargs: object) -> dict[str, object]:
    return {"args": list(args), "kwargs": kwargs}


@app.task(name="fuzz.fail", retry=Retry(max_attempts=1))
async def fail(why: str = "told to") -> None:
    raise ValueError(why)
