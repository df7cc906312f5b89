"""Every page has one title, and every relative link leads somewhere."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, anchors, links, name_of, pages, titles


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_page_has_one_title(page: Path) -> None:
    assert len(titles(page)) == 1


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in links(page) if not _leads_somewhere(page, link)]

    assert not broken


def test_every_page_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        waiting += [t for t in targets if t.suffix == ".md" and t.is_file() and t not in reached]

    unreached = [p for p in DOCS.rglob("*.md") if p not in reached and p.parent.name != "adr"]
    assert not unreached


def _leads_somewhere(page: Path, link: str) -> bool:
    if "://" in link or link.startswith("mailto:"):
        return True
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target)
