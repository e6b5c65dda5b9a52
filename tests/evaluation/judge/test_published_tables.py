"""LLaVA-Med's own summaries of stored reviews, to the digit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.evaluation.judge.rescore import rescore

NAMES = {"gpt4_score": "first_score", "pred_score": "second_score", "data_size": "n"}


def one_pair(file: Path) -> dict[str, Any]:
    (read,) = rescore(file, seed=0).scores["benchmarks"].values()
    (pair,) = read["judge"]["pairs"]
    return dict(pair)


def by_column(pair: dict[str, Any]) -> dict[str, Any]:
    groups = {"overall": pair, **pair["by"].get("question_type", {}), **pair["by"].get("modality", {})}
    return {name: group["published"] for name, group in groups.items()}


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for column, published in theirs.items():
        relative = published["pred_relative_score"]
        assert ours[column]["relative"]["value"] == (relative and pytest.approx(relative, rel=1e-9))
        for name, own in NAMES.items():
            number = published[name] if isinstance(published[name], float) else None  # "inf" is no JSON number
            assert ours[column][own] == (number and pytest.approx(number, rel=1e-9)), (column, name)


@pytest.mark.parametrize("name", ["ok", "ok_small_one_type"])
def test_v15(shared: Path, name: str) -> None:
    folder = shared / "oracle" / "judge"
    theirs = json.loads((folder / "v15_summary.json").read_text())["results"][name]
    assert_equal(by_column(one_pair(folder / f"{name}.jsonl")), theirs["table"])


def test_v15_with_a_strange_review(shared: Path, tmp_path: Path) -> None:
    """Where the summariser gives numbers, they are the same; where it ends in an exception, the review is left out."""
    folder = shared / "oracle" / "judge"
    results = json.loads((folder / "v15_summary.json").read_text())["results"]
    first_rows = (folder / "ok.jsonl").read_text().splitlines()[:6]
    told, seen = 0, 0
    for name, made in results.items():
        if "bad_first_line" not in made:
            continue
        row = {"question_id": "bad", "type": "conversation", "domain": {"mri": True}}
        row["gpt_eval"] = made["bad_first_line"] + "\nExplanation text."
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join([*first_rows, json.dumps(row)]) + "\n")
        ours = by_column(one_pair(file))
        if "table" in made:
            assert_equal(ours, made["table"])
            told += 1
        else:
            understood = name in ("bad_comma", "bad_comma_nospace", "bad_double_space", "bad_tab")
            understood |= name in ("bad_trailing_space", "bad_leading_space")
            assert ours["overall"]["n"] == 6 + understood, name
            seen += 1
    assert told >= 5 and seen >= 10


@pytest.mark.parametrize("name", ["base", "med"])
def test_v10(shared: Path, name: str) -> None:
    """Its printed lines: "detail [4.824, 3.118] 64.6": mean ratings, -1 for what was unreadable, and their ratio."""
    folder = shared / "oracle" / "judge"
    printed = json.loads((folder / "v10_summary.json").read_text())["summary_stdout"]
    block = printed.split(f"GPT-4 vs. {name}\n")[1].split("=====")[0]
    lines = re.findall(r"(\w+) \[([\d.]+), ([\d.]+)\] ([\d.]+)", block)
    ours = by_column(one_pair(folder / f"gpt4_text_{name}.jsonl"))
    assert len(lines) == len(ours) == 4
    for column, *numbers in lines:
        own = ours["overall" if column == "all" else column]
        found = [round(own["first_score"], 3), round(own["second_score"], 3), own["ratio_of_means"]]
        assert found == [float(number) for number in numbers]
    told = rescore(folder / f"gpt4_text_{name}.jsonl", seed=0).text
    assert set(block.splitlines()) <= {line.strip() for line in told.splitlines()}, "the same lines"


def test_the_published_table_by_number_of_questions(tmp_path: Path) -> None:
    """LLaVA-Med 60K-IM, paper table 1: 55.1 on 143 conversations and 36.4 on 50 descriptions are 50.2 on all 193."""
    rows = [
        {"question_id": number, "type": kind, "gpt_eval": f"10 {rating / 10}\n"}
        for kind, count, rating in (("conversation", 143, 55.1), ("detailed_description", 50, 36.4))
        for number in range(len(kind) * 1000, len(kind) * 1000 + count)
    ]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = by_column(one_pair(tmp_path / "reviews.jsonl"))
    assert round(columns["overall"]["relative"]["value"], 1) == 50.3, "of rounded cells; published: 50.2"
    assert round(columns["conversation"]["relative"]["value"], 1) == 55.1
