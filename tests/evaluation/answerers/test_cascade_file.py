from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.answerers.cascade_file import read_cascade

WHOLE = """
[router]
clip = "clip"
[experts.xray]
label = "a chest x ray"
model = "llava"
prompt = "Describe it."
[experts.ct]
label = "a ct scan"
clip = "clip"
findings = ["a nodule", "a lung"]
[answerer]
model = "llava"
prompt = "{label}: {description} {question}"
"""


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "clip").mkdir(exist_ok=True)
    (tmp_path / "llava").mkdir(exist_ok=True)
    (tmp_path / "cascade.toml").write_text(text)
    return tmp_path / "cascade.toml"


def test_a_whole_file_is_read_its_paths_beside_it(tmp_path: Path) -> None:
    plan = read_cascade(write(tmp_path, WHOLE))
    assert [expert.name for expert in plan.experts] == ["xray", "ct"]
    assert plan.clip == tmp_path / "clip" and plan.answerer == str(tmp_path / "llava")
    assert plan.experts[1].findings == ("a nodule", "a lung") and plan.experts[0].prompt == "Describe it."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label =", "lable =", r"\[experts\.xray\]: unknown key 'lable'; did you mean label\?"),
        ("[answerer]", "[answers]", "unknown key 'answers'; did you mean answerer"),
        ('model = "llava"\nprompt = "Describe it."', 'prompt = "Describe it."', "must name `model` or `clip`"),
        ('prompt = "Describe it."', "", r"\[experts\.xray\] has no `prompt`"),
        ('findings = ["a nodule", "a lung"]', "findings = [3]", "must be a list of texts"),
        ('[router]\nclip = "clip"', "", r"\[router\] must name"),
        ('[router]\nclip = "clip"', '[router]\nclip = "nowhere"', "there is no folder"),
        ("{question}", "{picture}", "unknown field {picture}"),
        ("{description} {question}", "{question", "prompt: "),
        ("{description} {question}", "{question}", "must hold {description} and {question}"),
        ('model = "llava"\nprompt = "{label}', 'model = "llava"\nopenai = "m"\nprompt = "{label}', "and not both"),
        ('"a ct scan"', "7", "must be a text"),
    ],
)
def test_a_fault_is_named_with_its_table(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in WHOLE
    with pytest.raises(DataError, match=message):
        read_cascade(write(tmp_path, WHOLE.replace(old, new)))


def test_the_example_is_whole(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "cascade.toml"
    (tmp_path / "pubmedclip").mkdir()
    (tmp_path / "cascade.toml").write_bytes(example.read_bytes())
    plan = read_cascade(tmp_path / "cascade.toml")
    assert [expert.name for expert in plan.experts] == ["radiology", "microscopy"] and plan.served == "gpt-4o-mini"
