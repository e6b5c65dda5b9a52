"""report.html as an accessibility checker and a suspicious reader go through it: structure, contrast, escaping."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from lxml import html

AGAINST_PAPER = ("ink", "faint", "mark", "good", "bad")
TEXT_CONTRAST, GRAPHICS_CONTRAST = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11, level AA


@pytest.fixture(scope="module")
def tree(page: str) -> html.HtmlElement:
    return html.document_fromstring(page)


def test_nothing_in_it_runs_or_is_fetched(page: str, tree: html.HtmlElement) -> None:
    assert not tree.xpath("//script | //link | //iframe | //object | //form")
    assert all(source.startswith("data:image/jpeg;base64,") for source in tree.xpath("//@src"))
    assert all(target.startswith("#") for target in tree.xpath("//@href"))
    assert not [name for element in tree.iter() for name in element.attrib if name.startswith("on")]
    assert "url(" not in "".join(tree.xpath("//style/text()"))
    (policy,) = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert "default-src 'none'" in policy and "script-src" not in policy


def test_what_models_wrote_is_shown_as_text(tree: html.HtmlElement) -> None:
    said = [element.text_content() for element in tree.xpath("//bdi[@class='said']")]
    assert any("<script>document.title='owned'</script>" in text for text in said)
    assert "no [U+202E]fracture [U+D800] seen" in said
    assert "\u202e" not in tree.text_content()
    assert not tree.xpath("//b[text()='3'] | //i")


def test_headings_go_down_one_step_at_a_time(tree: html.HtmlElement) -> None:
    levels = [int(heading.tag[1]) for heading in tree.xpath("//h1 | //h2 | //h3 | //h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_tables_pictures_and_regions_have_names(tree: html.HtmlElement) -> None:
    assert all(head.get("scope") in ("col", "row", "colgroup", "rowgroup") for head in tree.xpath("//th"))
    assert all(table.xpath(".//th") for table in tree.xpath("//table"))
    assert all(picture.get("alt") for picture in tree.xpath("//img"))
    assert all(drawing.get("aria-hidden") or drawing.xpath("./title") for drawing in tree.xpath("//svg"))
    for region in tree.xpath("//*[@role='region']"):
        assert region.get("aria-label") and region.get("tabindex") == "0"
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    for target in [*(link[1:] for link in tree.xpath("//@href")), *" ".join(tree.xpath("//@aria-labelledby")).split()]:
        assert target in ids


def test_rows_are_as_long_as_their_heads(tree: html.HtmlElement) -> None:
    for table in tree.xpath("//table"):
        widths, below = set(), 0
        for row in table.xpath(".//tr"):
            cells = row.xpath("./td | ./th")
            widths.add(below + sum(int(cell.get("colspan", 1)) for cell in cells))
            spans = [int(cell.get("rowspan", 1)) for cell in cells]
            if any(span > 1 for span in spans):
                below, left = sum(span > 1 for span in spans), max(spans)
            elif not below:
                left = 1
            left -= 1
            below = below if left > 0 else 0
        assert len(widths) == 1, table.text_content()[:200]


def test_numbers_are_those_of_scores_json(evaluated: Path, tree: html.HtmlElement) -> None:
    scores = json.loads((evaluated / "out" / "scores.json").read_text())["benchmarks"]["bench"]
    (table,) = tree.xpath("//div[@aria-label='Scores on bench']/table")
    for row, (who, answered) in zip(table.xpath("./tbody/tr"), scores["answerers"].items(), strict=True):
        assert row.xpath("./th")[0].text_content() == who
        shown = [float(cell.text_content().split()[0]) for cell in row.xpath("./td")]
        exact = [
            answered["open"]["reference"]["recall"],
            answered["closed"]["reference"]["closed_accuracy"],
            answered["overall"]["strict"]["accuracy"],
            answered["open"]["strict"]["accuracy"],
            answered["open"]["strict"]["f1"],
            answered["closed"]["strict"]["accuracy"],
        ]
        assert shown == pytest.approx([interval["value"] for interval in exact], abs=0.05)
    for who, answered in scores["answerers"].items():
        (confusion,) = tree.xpath(f"//div[@aria-label='Yes and no: {who}']/table")
        for row in confusion.xpath("./tbody/tr"):
            counted = [int(cell.text) for cell in row.xpath("./td")]
            assert counted == list(answered["verdicts"][row.xpath("./th")[0].text].values())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_told_apart(page: str, scheme: str) -> None:
    colours: dict[str, str] = {}
    blocks = re.findall(r"(@media \(prefers-color-scheme: dark\) \{ )?:root \{([^}]*)\}", page)
    for dark, block in blocks:
        if not dark or scheme == "dark":
            colours |= dict(re.findall(r"--(\w+): (#[0-9a-f]+)", block))
    for paper in ("paper", "wash"):
        for name in AGAINST_PAPER:
            assert _contrast(colours[name], colours[paper]) >= TEXT_CONTRAST, (name, paper)
        for number in range(6):
            assert _contrast(colours[f"s{number}"], colours[paper]) >= GRAPHICS_CONTRAST


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(letter * 2 for letter in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_says_how_it_was_made(evaluated: Path, tree: html.HtmlElement) -> None:
    text = " ".join(tree.text_content().split())
    run = json.loads((evaluated / "out" / "run.json").read_text())
    for expected in (
        run["inputs"]["questions of bench"]["sha256"],
        run["inputs"]["pictures of bench"]["name"],
        run["inputs"]["answers:good.jsonl"]["sha256"],
        f"llavamed {run['versions']['llavamed']}",
        run["results"]["machine"]["processor"],
        "always",
        "Nature Medicine 31:60",
    ):
        assert expected in text
