"""Draws a run of a workflow as a tree in the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from conveyor.cli.output import STATE_MARKS, STYLES, span, state

if TYPE_CHECKING:
    from rich.tree import Tree

    from conveyor.flows.overview import NodeInfo, RunInfo

CROWD = 5
"""More siblings alike than so many are drawn as one line."""


def tree_of(info: RunInfo) -> Tree:
    """Return the tree: each node hangs below the last of its parents; the others are named."""
    from rich.text import Text
    from rich.tree import Tree

    took = f" in {span(info.finished_at - info.created_at)}" if info.finished_at else ""
    why = f" ({info.reason})" if info.reason else ""
    tree = Tree(Text(f"{info.name}  {info.id}  {state(info.status)}{took}{why}", style="bold"))
    places: dict[str, Any] = {}
    order = {node.name: number for number, node in enumerate(info.nodes)}
    for group in _groups(info.nodes):
        first = group[0]
        parents = sorted(first.parents, key=order.__getitem__)
        above = places[parents[-1]] if parents else tree
        branch = above.add(_line(group, parents[:-1]))
        places |= dict.fromkeys((node.name for node in group), branch)
    return tree


def _groups(nodes: tuple[NodeInfo, ...]) -> list[list[NodeInfo]]:
    """Put siblings together that are alike, where there is a crowd of them."""
    alike: dict[Any, list[NodeInfo]] = {}
    for node in nodes:
        alike.setdefault((node.parents, node.kind, node.task, node.condition), []).append(node)
    groups: list[list[NodeInfo]] = []
    for node in nodes:
        group = alike[node.parents, node.kind, node.task, node.condition]
        if len(group) <= CROWD:
            groups.append([node])
        elif group[0] is node:
            groups.append(group)
    return groups


def _line(group: list[NodeInfo], others: list[str]) -> Any:
    from rich.text import Text

    first = group[0]
    if len(group) > 1:
        counts = Counter(str(node.state) for node in group)
        states = "  ".join(f"{STATE_MARKS[name]} {count:,}" for name, count in counts.items())
        line = Text(f"{first.name} … {group[-1].name}  ×{len(group):,}  {states}")
    else:
        line = Text(STATE_MARKS[first.state], style=STYLES.get(first.state, ""))
        line.append(f" {first.name}", style="" if first.state != "skipped" else "dim")
        line.append(f"  {first.state}", style="dim")
    if first.kind == "map" and first.children_ended is not None:
        of = f" of {first.children:,}" if first.children is not None else ""
        line.append(f"  {first.children_ended:,}{of} children", style="dim")
    if first.condition is not None:
        line.append(f"  when {first.condition}", style="dim")
    if others:
        shown = ", ".join(others[:3]) + (
            f" and {len(others) - 3:,} more" if len(others) > 3 else ""
        )
        line.append(f"  also after {shown}", style="dim")
    if first.reason:
        line.append(f"  {first.reason}", style="red")
    return line
