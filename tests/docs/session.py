"""Run one page as a reader would: `session.py STEPS.json`, in an empty folder.

A process of its own, so that a page can do what it likes. Prints what went wrong, with the page's
line, and exits 1; silent and 0 when the page is true.
"""

import ast
import asyncio
import gc
import inspect
import io
import json
import os
import re
import signal
import sys
import traceback
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

_EXPECTED = re.compile(r"^\s*print\(.*\)  # (?P<text>.+)$", re.MULTILINE)
_COMMAND_TIMEOUT = 60.0


class PageError(Exception):
    """The page says something that is not true."""


def pattern(expected: str) -> re.Pattern[str]:
    """A loose pattern: any white space for white space, anything for `…`."""
    parts = [
        r"\s+".join(re.escape(word) for word in piece.split()) for piece in expected.split("…")
    ]
    return re.compile(r"[\s\S]*?".join(parts))


def must_match(expected: str, seen: str, line: int) -> None:
    """Raise `PageError` unless the output looks as the page says."""
    if expected.strip() and not pattern(expected).search(seen):
        raise PageError(f"line {line}: expected\n{expected.rstrip()}\nbut saw\n{seen.rstrip()}")


def save(name: str, code: str) -> None:
    """Save a block as a file."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, "utf-8")


class Shell:
    """One bash for the page: variables and background jobs live on from block to block."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._count = 0

    @classmethod
    async def start(cls) -> "Shell":
        """Start it in a process group of its own."""
        process = await asyncio.create_subprocess_exec(
            "bash",
            "--norc",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=2**20,
        )
        return cls(process)

    async def run(self, commands: str) -> tuple[str, str]:
        """Return what the commands printed, and the last exit code that was not 0 ("0": none)."""
        self._count += 1
        mark = f"@@{self._count}@@"
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise PageError("the shell has no pipes")
        stdin.write(
            f"failed=0; trap 'failed=$?' ERR\n{{ :\n{commands.rstrip()}\n}} </dev/null\n"
            f"printf '\\n%s %s\\n' {mark} $failed\n".encode()
        )
        await stdin.drain()
        lines: list[str] = []
        async with asyncio.timeout(_COMMAND_TIMEOUT):
            while raw := await stdout.readline():
                line = raw.decode()
                if line.startswith(mark):
                    return "".join(lines).removesuffix("\n"), line.split()[1]
                lines.append(line)
        raise PageError(f"the shell ended:\n{''.join(lines)}")

    async def close(self) -> None:
        """Stop the jobs the page left running, gently first, and the shell."""
        with suppress(PageError, TimeoutError, ConnectionError):
            await self.run("kill $(jobs -p) 2>/dev/null || true; wait")
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


class Session:
    """What a reader has open: an interpreter and a shell."""

    def __init__(self, page: str) -> None:
        self.page = page
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._shell: Shell | None = None

    async def do(self, step: dict[str, Any]) -> None:
        """Do one block."""
        line: int = step["line"]
        match step["language"]:
            case "python" if step["file"]:
                compile(step["code"], f"{self.page}:{line}", "exec")
                save(step["file"], step["code"])
            case "python":
                await self._python(step["code"], line)
            case "sh":
                shown, code = await (await self._bash()).run(step["code"])
                if code != "0":
                    raise PageError(f"line {line}: a command left with {code}:\n{shown}")
            case _:
                await self._console(step["code"], line)

    async def close(self) -> None:
        """Close what the page left open."""
        if self._shell is not None:
            await self._shell.close()
        if "conveyor" not in sys.modules:
            return
        from conveyor import Conveyor

        for app in [found for found in gc.get_objects() if isinstance(found, Conveyor)]:
            await app.close()

    async def _python(self, code: str, line: int) -> None:
        padded = "\n" * (line - 1) + code
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compiled = compile(padded, self.page, "exec", flags=flags)
        printed = io.StringIO()
        with redirect_stdout(printed):
            running = eval(compiled, self.names)
            if inspect.isawaitable(running):
                await running
        told = [match.group("text") for match in _EXPECTED.finditer(code)]
        must_match("…".join(told), printed.getvalue(), line)

    async def _console(self, code: str, line: int) -> None:
        shell = await self._bash()
        for command, expected in _exchanges(code):
            shown, _ = await shell.run(command)
            if not expected.strip() and shown.strip():
                raise PageError(f"line {line}: {command!r} printed what is not shown:\n{shown}")
            must_match(expected, shown, line)

    async def _bash(self) -> Shell:
        if self._shell is None:
            self._shell = await Shell.start()
        return self._shell


def _exchanges(code: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in code.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> "):
            command, _ = found[-1]
            found[-1] = (command + line[2:], "")
        else:
            command, expected = found[-1]
            found[-1] = (command, expected + line)
    return found


async def main(plan: dict[str, Any]) -> int:
    """Run all steps; returns the exit code."""
    session = Session(plan["page"])
    step: dict[str, Any] = {"line": 0}
    try:
        for step in plan["steps"]:
            await session.do(step)
    except PageError as wrong:
        print(f"{plan['page']}, {wrong}")
        return 1
    except Exception:  # noqa: BLE001 - the page's own code
        print(f"{plan['page']}, the block at line {step['line']} raised:")
        traceback.print_exc(file=sys.stdout)
        return 1
    finally:
        await session.close()
    return 0


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    sys.exit(asyncio.run(main(json.loads(Path(sys.argv[1]).read_text("utf-8")))))
