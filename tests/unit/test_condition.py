"""Conditions: built by operators, parsed from text, evaluated, explained, bounded."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyor.core.condition import (
    MAX_DEPTH,
    ConditionError,
    Facts,
    Operand,
    check,
    explain,
    holds,
    nodes_of,
    text,
)
from conveyor.core.condition_text import parse
from conveyor.core.errors import InvalidWorkflow

score, user = Operand(("result", 0)), Operand(("result", 1))
NODES = {"score": 0, "user": 1}
RESULTS: dict[int, Any] = {
    0: {"risk": 80, "tags": ["a", "b"]},
    1: {"plan": "pro", "name": None},
    -1: {"limit": 50},
}
FACTS = Facts(RESULTS.__getitem__, lambda node: ["succeeded", "failed"][node])


def name(node: int) -> str:
    return next(name for name, number in NODES.items() if number == node)


CASES = [
    (score["risk"] > 70, 'score.result["risk"] > 70', True),
    (score["risk"] <= 70, "score.result.risk <= 70", False),
    (score["risk"] == 80, "score.result.risk == 80", True),
    (score["risk"] != 80, "score.result.risk != 80", False),
    (score["risk"] + 1 >= 81, "score.result.risk + 1 >= 81", True),
    (score["risk"] * 2 - 10 < 150, "score.result.risk * 2 - 10 < 150", False),
    (user["plan"].is_in(["pro", "team"]), "user.result.plan in ['pro', 'team']", True),
    (score["tags"].contains("c"), "'c' in score.result.tags", False),
    (~score["tags"].contains("c"), "'c' not in score.result.tags", True),
    (score["tags"].length() == 2, "len(score.result.tags) == 2", True),
    (score["tags"][1] == "b", "score.result.tags[1] == 'b'", True),
    (user["name"].is_none(), "user.result.name is None", True),
    (~user["nothing"].is_none(), "user.result.nothing is not None", False),
    (
        (score["risk"] > 90) | (user["plan"] == "pro"),
        "score.result.risk > 90 or user.result.plan == 'pro'",
        True,
    ),
    (
        (score["risk"] > 70) & (user["plan"] == "x"),
        "score.result.risk > 70 and user.result.plan == 'x'",
        False,
    ),
    (Operand(("state", 1)) == "failed", "user.state == 'failed'", True),
    (score["risk"] > Operand(("result", -1, "limit")), "score.result.risk > input.limit", True),
    ((score["risk"] > 0) & (score["risk"] < 100), "0 < score.result.risk < 100", None),
]


@pytest.mark.parametrize(("built", "written", "expected"), CASES, ids=[case[1] for case in CASES])
def test_what_is_built_and_what_is_written_mean_the_same(
    built: Operand, written: str, expected: bool | None
) -> None:
    parsed = parse(written, NODES)
    if expected is None:
        assert holds(parsed, FACTS) == holds(built.expression, FACTS)
        return
    assert holds(built.expression, FACTS) is expected
    assert holds(parsed, FACTS) is expected
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(built.expression))
    assert holds(stored, FACTS) is expected
    assert holds(parse(text(stored, name), NODES), FACTS) is expected


def test_an_explanation_names_the_operands_that_decided() -> None:
    said = explain(parse("score.result.risk > 90 and user.state == 'failed'", NODES), name, FACTS)
    assert said == (
        "(score.result['risk'] (= 80) > 90) and (user.state (= 'failed') == 'failed') does not hold"
    )
    unknown = explain(parse("user.result.name > 1", NODES), name, FACTS)
    assert "cannot be told: None > 1" in unknown


def test_what_cannot_be_compared_is_an_error_that_shows_both() -> None:
    with pytest.raises(ConditionError, match="'pro' > 3"):
        holds((user["plan"] > 3).expression, FACTS)
    with pytest.raises(ConditionError, match="not of two numbers"):
        holds((user["plan"] * 1_000_000_000 == "x").expression, FACTS)


def test_a_condition_is_not_a_truth_value_while_it_is_built() -> None:
    with pytest.raises(InvalidWorkflow, match=r"in place of and, or, not"):
        bool(score["risk"] > 70)
    with pytest.raises(InvalidWorkflow, match=r"flow\.map"):
        list(score)
    with pytest.raises(InvalidWorkflow, match="indexed"):
        (score > 1)["x"]


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("score.result >", "invalid syntax at column"),
        ("scores.result > 1", "no node is named 'scores' \\(column 1\\)"),
        ("score.result > 1 or open('x')", "a call .* at column 21"),
        ("score.results > 1", "of a node .* at column 1"),
        ("score", "the name 'score' alone"),
        ("score.result[user.result]", "an index that is neither"),
        ("score.result ** 2 > 1", "operator Pow"),
        ("~score.result", "operator Invert"),
        ("(lambda: 1)()", "a call"),
        ("[x for x in score.result]", "ListComp at column 1"),
        ("score.result is 3", "what follows 'is'"),
        ("score.result in [user.result]", "a list of other than"),
        ("score.result == b'x'", "the constant"),
        ("f'{score.result}' == 'x'", "JoinedStr"),
        ("x" * 3_000, "at most 2,000"),
        ("(" * 300 + "1" + ")" * 300, "condition"),
        (" and ".join(["score.result > 1"] * 110), "at most 200 parts|at most 2,000"),
        ("not " * 30 + "score.result", f"nested {MAX_DEPTH} deep"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(written: str, complaint: str) -> None:
    with pytest.raises(InvalidWorkflow, match=complaint):
        parse(written, NODES)


@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(written: str) -> None:
    try:
        expression = parse(written, NODES)
    except InvalidWorkflow:
        return
    check(expression)
    assert nodes_of(expression) <= {0, 1, -1}


@pytest.mark.parametrize("broken", [(), ("boom", 1), ("gt", ("value", 1)), "text", ("not",)])
def test_what_is_no_expression_is_refused(broken: Any) -> None:
    with pytest.raises(InvalidWorkflow):
        check(broken)
