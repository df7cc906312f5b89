"""Read the documentation's pages: code blocks, headings, links.

The conventions of code blocks, also told to readers in `docs/index.md`:

- `python` whose first line is a comment with a file name (`# shop.py`): a file, saved as that.
- any other `python`: typed into one `python -m asyncio` session per page, so `await` works at the
  top level. A `print(…)  # text` says what is printed.
- `sh`: typed into one shell per page, in the same folder; every command must succeed.
- `console`: the same, with `$ ` before commands and their output below; `…` stands for anything.
- everything else (`text`, `ini`, `toml`, `json`, `js`): shown, not run here; that of
  `howto/webhooks.md` in `js` runs in tests/console/test_signatures.py.
"""

import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUNNABLE = ("python", "sh", "console")
SHOWN = ("text", "ini", "toml", "json", "yaml", "js")
_FILE = re.compile(r"# ([\w/.-]+\.\w+)\n")
_RUNS = re.compile(rf"^ *```({'|'.join(RUNNABLE)})$", re.MULTILINE)
_HTML = re.compile(r"<[^>]+>")


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is that of its first line of code in the page."""

    language: str
    code: str
    line: int

    @property
    def file(self) -> str | None:
        """The name under which it is saved, if it is a file."""
        named = _FILE.match(self.code) if self.language == "python" else None
        return named.group(1) if named else None

    def step(self) -> dict[str, Any]:
        """What the session is told."""
        return {**asdict(self), "file": self.file}


@cache
def pages() -> tuple[Path, ...]:
    """The README and every page of docs/, by name."""
    return (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))


def name_of(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(token.info.strip(), token.content, (token.map or [0])[0] + 2)
        for token in _tokens(page)
        if token.type == "fence"
    ]


def has_code(page: Path) -> bool:
    """Whether a page has blocks that run; parsing it takes longer."""
    return _RUNS.search(page.read_text("utf-8")) is not None


def links(page: Path) -> list[str]:
    """Targets of all links of a page."""
    return [
        str(child.attrs["href"])
        for token in _tokens(page)
        for child in token.children or ()
        if child.type == "link_open"
    ]


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get from the usual renderers."""
    tokens = _tokens(page)
    return {
        _slug(tokens[index + 1].content)
        for index, token in enumerate(tokens)
        if token.type == "heading_open"
    }


def titles(page: Path) -> list[str]:
    """The page's headings of the first level."""
    tokens = _tokens(page)
    return [
        tokens[index + 1].content
        for index, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h1"
    ]


def _slug(heading: str) -> str:
    plain = _HTML.sub("", heading).lower().replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


def code_spans(page: Path) -> list[str]:
    """All inline code of a page."""
    return [
        child.content
        for token in _tokens(page)
        for child in token.children or ()
        if child.type == "code_inline"
    ]
