from __future__ import annotations

import re
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
    for folder in ("clip", "llava"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir(exist_ok=True)
    (tmp_path / "cascade.toml").write_text(text)
    return tmp_path / "cascade.toml"


def test_a_whole_file_is_read_its_paths_beside_it(tmp_path: Path) -> None:
    plan = read_cascade(write(tmp_path, WHOLE))
    assert [expert.name for expert in plan.experts] == ["xray", "ct"]
    assert plan.clip == tmp_path / "clip" and plan.answerer == str(tmp_path / "llava")
    assert plan.experts[1].findings == ("a nodule", "a lung") and plan.experts[0].prompt == "Describe it."
    assert plan.parts == {
        "router, expert ct": str(tmp_path / "clip"),
        "answerer, expert xray": str(tmp_path / "llava"),
    }


MODEL = 'model = "llava"\nprompt = "Describe it."'
ROUTER = '[router]\nclip = "clip"'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('label = "a chest x ray"', 'lable = "a"', "unknown key experts.xray.lable, did you mean label?"),
        ("[answerer]", "[answers]", "unknown key answers, did you mean answerer?"),
        (MODEL, 'prompt = "Describe it."', "[experts.xray] must name `model` or `clip`, and not both"),
        (MODEL, 'model = "llava"', "experts.xray.prompt is missing"),
        (MODEL, f'{MODEL}\nfindings = ["a", "b"]', "experts.xray.findings has no effect beside `model`"),
        (MODEL, 'model = "lava"\nprompt = "p"', "no hub name is written so"),
        (MODEL, 'model = "empty"\nprompt = "p"', "expected a folder with config.json"),
        (MODEL, 'model = "~nobody-of-this-name/m"\nprompt = "p"', "experts.xray.model: there is no folder"),
        (MODEL, 'model = "a\\u0000b"\nprompt = "p"', "experts.xray.model: there is no folder"),
        (MODEL, f'model = "{"a" * 5000}/b"\nprompt = "p"', "experts.xray.model: there is no folder"),
        ("Describe it.", "a" * 10_001, "experts.xray.prompt is longer than"),
        ('["a nodule", "a lung"]', "[3]", "experts.ct.findings must be a list of texts"),
        ('["a nodule", "a lung"]', '["a lung"]', "experts.ct.findings must be 2 to 512 different texts"),
        ('["a nodule", "a lung"]', '["a lung", "a lung"]', "experts.ct.findings must be 2 to 512 different texts"),
        (ROUTER, "", "[router] must name"),
        (ROUTER, '[router]\nclip = "nowhere"', "router.clip: there is no folder"),
        (ROUTER, "router = 3", "[router] must be a table"),
        ("a ct scan", "a chest x ray", "two experts have the label 'a chest x ray'"),
        ('"a ct scan"', "7", "experts.ct.label must be a text"),
        ("{question}", "{picture}", "answerer.prompt holds {picture}; known are {label}, {description}, {question}"),
        ("{question}", "{question.__class__}", "answerer.prompt holds {question.__class__}"),
        ("{question}", "{question:>999999999}", "answerer.prompt holds {question:>999999999}"),
        ("{question}", "{question!r}", "answerer.prompt holds {question!r}"),
        ("{question}", "{}", "answerer.prompt holds {}"),
        ("{description} {question}", "{question", "answerer.prompt: "),
        ("{description} {question}", "{question}", "must hold {description} and {question}"),
        ("[answerer]", '[answerer]\nopenai = "m"', "[answerer] must name `model` or `openai`, and not both"),
        ("[answerer]", '[answerer]\nbase_url = "http://x"', "answerer.base_url is of a server"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in WHOLE
    with pytest.raises(DataError, match=re.escape(message)):
        read_cascade(write(tmp_path, WHOLE.replace(old, new, 1)))


def test_all_faults_are_told_together(tmp_path: Path) -> None:
    faulty = WHOLE.replace("label", "lable").replace('clip = "clip"', 'clip = "nowhere"')
    with pytest.raises(DataError, match=r"7 fault\(s\) in this cascade"):
        read_cascade(write(tmp_path, faulty))


@pytest.mark.parametrize("text", ["", "a = " + "[" * 100_000, "a = " + "1" * 5000, "[experts]", "experts = []"])
def test_a_file_that_means_harm_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"not TOML|fault\(s\)"):
        read_cascade(write(tmp_path, text))


def test_a_single_expert_needs_no_router(tmp_path: Path) -> None:
    alone = WHOLE.replace(ROUTER, "").replace(WHOLE[WHOLE.index("[experts.ct]") : WHOLE.index("[answerer]")], "")
    assert len(read_cascade(write(tmp_path, alone)).experts) == 1
    with pytest.raises(DataError, match="no effect on a single expert"):
        read_cascade(write(tmp_path, ROUTER + alone))


def test_the_example_is_whole(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "cascade.toml"
    for folder in ("pubmedclip", "llava-med-v1.5"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
    (tmp_path / "cascade.toml").write_bytes(example.read_bytes())
    plan = read_cascade(tmp_path / "cascade.toml")
    assert [expert.name for expert in plan.experts] == ["radiology", "microscopy"] and plan.served == "gpt-4o-mini"
