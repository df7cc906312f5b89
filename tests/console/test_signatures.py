"""The programs of docs/howto/webhooks.md check what we sign: the Python one and the Node one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conveyor_console.webhooks.signing import make_secret, signature
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "howto" / "webhooks.md"
NOW = 1_764_244_800
Check = Callable[[str, str, bytes, float], bool]


def _block(language: str, name: str) -> str:
    return next(
        one.code for one in blocks(PAGE) if one.language == language and name in one.code[:20]
    )


def _python(tmp_path: Path) -> Check:
    namespace: dict[str, Any] = {}
    exec(_block("python", "verify.py"), namespace)
    check: Check = namespace["is_genuine"]
    return check


def _node(tmp_path: Path) -> Check:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on the path")
    (tmp_path / "verify.mjs").write_text(_block("js", "verify.mjs"), "utf-8")
    (tmp_path / "main.mjs").write_text(
        'import { isGenuine } from "./verify.mjs";\n'
        "const [secret, header, body, now] = JSON.parse(process.argv[2]);\n"
        'console.log(isGenuine(secret, header, Buffer.from(body, "hex"), now));\n',
        "utf-8",
    )

    def check(secret: str, header: str, body: bytes, now: float) -> bool:
        given = json.dumps([secret, header, body.hex(), now])
        command = [node, str(tmp_path / "main.mjs"), given]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return ran.stdout.strip() == "true"

    return check


@pytest.mark.parametrize("language", [_python, _node], ids=["python", "node"])
def test_the_documented_check_takes_what_is_genuine_only(
    language: Callable[[Path], Check], tmp_path: Path
) -> None:
    check = language(tmp_path)
    secret, other, body = make_secret(), make_secret(), '{"a": "ü"}'.encode()
    good = signature([secret], body, NOW)
    assert re.fullmatch(r"t=\d+,v1=[0-9a-f]{64}", good)
    assert check(secret, good, body, NOW + 299)
    assert check(secret, signature([other, secret], body, NOW), body, NOW)
    assert not check(other, good, body, NOW)
    assert not check(secret, good, body + b" ", NOW)
    assert not check(secret, good, body, NOW + 301)
    assert not check(secret, good.replace(f"t={NOW}", f"t={NOW + 1}"), body, NOW)
    for bad in ("", "t=,v1=", "v1=00", f"t={NOW}", f"t={NOW},v1=zz", "nonsense", good[:-2]):
        assert not check(secret, bad, body, NOW)
