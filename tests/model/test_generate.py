"""Answers: the same from us, from plain transformers, in a batch and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from llavamed_cli.model.assemble import assemble_on
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.records import Turn

LENGTH = 12


def asking(text: str, *pictures: Image.Image, before: tuple[Turn, ...] = ()) -> Prompt:
    return Prompt(turns=(*before, Turn(speaker="human", text=text)), pictures=pictures)


def stripes(seed: int) -> Image.Image:
    noise = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray((noise * 255).to(torch.uint8).numpy()).resize((50 + seed, 40))


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """One picture, none, two, and a conversation: four lengths in one batch."""
    talked = (Turn(speaker="human", text="<image>\nIs it a lung?"), Turn(speaker="gpt", text="Yes"))
    return [
        asking("<image>\nWhat is it?", stripes(0)),
        asking("What is a lung?"),
        asking("<image>\n<image>\nWhich is larger, and why is it?", stripes(1), stripes(2)),
        Prompt(turns=(*talked, Turn(speaker="human", text="Sure?")), pictures=(stripes(3),)),
    ]


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as someone writes it who knows transformers alone."""
    pictures = iter(prompt.pictures)
    written = []
    for turn in prompt.turns:
        content: list[dict[str, Any]] = []
        for line in turn.text.split("\n"):
            content.append(
                {"type": "image", "image": next(pictures)} if line == "<image>" else {"type": "text", "text": line}
            )
        written.append({"role": {"human": "user", "gpt": "assistant"}[turn.speaker], "content": content})
    return written


@pytest.mark.parametrize("number", range(4))
def test_plain_transformers_reads_the_same_ids_and_gives_the_same_answer(
    number: int, tiny_model: Path, loaded: LoadedModel, prompts: list[Prompt]
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    prompt = prompts[number]
    processor: Any = AutoProcessor.from_pretrained(tiny_model)
    model: Any = AutoModelForImageTextToText.from_pretrained(tiny_model).eval()
    inputs = processor.apply_chat_template(
        messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = inputs["input_ids"][0].tolist()
    assert tuple(ids) == loaded.chat.encode_prompt(prompt.turns, [loaded.image_length] * len(prompt.pictures))
    if prompt.pictures:
        assert torch.equal(inputs["pixel_values"], loaded.pixels(list(prompt.pictures)))
    output = model.generate(**inputs, do_sample=False, max_new_tokens=LENGTH)[0, len(ids) :]
    ours = answer_batch(loaded, [prompt], max_new_tokens=LENGTH)[0]
    assert tuple(output.tolist()) == ours.token_ids
    assert processor.decode(output, skip_special_tokens=True).strip() == ours.text


def test_a_batch_answers_as_each_prompt_alone(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    together = answer_batch(loaded, prompts, max_new_tokens=LENGTH)
    alone = [answer_batch(loaded, [prompt], max_new_tokens=LENGTH)[0] for prompt in prompts]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.confidence == pytest.approx(other.confidence, rel=1e-4)


def test_confidence_is_the_geometric_mean_of_the_tokens_probabilities(
    loaded: LoadedModel, prompts: list[Prompt]
) -> None:
    prompt = prompts[0]
    answer = answer_batch(loaded, [prompt], max_new_tokens=5)[0]
    asked = loaded.chat.encode_prompt(prompt.turns, [loaded.image_length])
    whole = torch.tensor([[*asked, *answer.token_ids]])
    model: Any = loaded.model
    with torch.no_grad():
        logits = model(input_ids=whole, pixel_values=loaded.pixels(list(prompt.pictures))).logits[0]
    chances = [float(logits[len(asked) + place - 1].softmax(-1)[token]) for place, token in enumerate(answer.token_ids)]
    product = 1.0
    for chance in chances:
        product *= chance
    assert answer.confidence == pytest.approx(product ** (1 / len(chances)), rel=1e-4)


def test_an_answer_ends_at_its_end_token(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output layer is made to prefer the end token, so every answer is that token alone."""
    model: Any = loaded.model
    end = loaded.chat.end_token_id
    plain = model.lm_head.forward

    def prefer_end(states: torch.Tensor) -> torch.Tensor:
        logits = plain(states)
        logits[..., end] = 1e4
        return logits

    monkeypatch.setattr(model.lm_head, "forward", prefer_end)
    answers = answer_batch(loaded, [asking("a"), asking("longer")], max_new_tokens=LENGTH)
    assert [(answer.token_ids, answer.text) for answer in answers] == [((end,), "")] * 2
    assert answers[0].confidence == pytest.approx(1.0)


def test_the_picture_reaches_the_model(loaded: LoadedModel) -> None:
    """Two pictures, one question: if the answer and its probability are the same, no picture arrived."""
    seen = [
        answer_batch(loaded, [asking("<image>\nWhat?", Image.new("RGB", (64, 64), colour))], max_new_tokens=1)[0]
        for colour in ("black", "white")
    ]
    assert seen[0].token_ids != seen[1].token_ids or abs(seen[0].confidence - seen[1].confidence) > 1e-4


# ---- answers that end at a text


@pytest.fixture(scope="module")
def ends_at_text() -> LoadedModel:
    """A model whose format ends answers at `###` and leaves `Assistant:` to the model."""
    return assemble_on("tiny", "tiny", device="cpu", precision="fp32", seed=0, template="simple")


class Dictated:
    """Makes the model say given texts, one a row, a token a step; `steps` counts how long it was let to."""

    def __init__(self, loaded: LoadedModel, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        model, processor = loaded.model, loaded.processor
        words: Any = processor
        self.ids = [words.tokenizer(text)["input_ids"] for text in texts]
        self.steps = 0
        plain = model.lm_head.forward

        def say(states: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = plain(states)
            for row, ids in enumerate(self.ids):
                logits[row, -1, ids[self.steps]] = 1e4
            self.steps += 1
            return logits

        monkeypatch.setattr(model.lm_head, "forward", say)


def test_rows_end_at_the_stop_text_without_it_and_without_the_role(
    ends_at_text: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["Assistant: A lung.\n###Human: And?" + "?" * 40, "Human: sign #1, ## too.###" + "?" * 60]
    dictated = Dictated(ends_at_text, said, monkeypatch)
    answers = answer_batch(ends_at_text, [asking("a"), asking("longer")], max_new_tokens=60)
    assert [answer.text for answer in answers] == ["A lung.", "sign #1, ## too."]
    lengths = [len(answer.token_ids) for answer in answers]
    words: Any = ends_at_text.processor
    assert [words.tokenizer.decode(answer.token_ids) for answer in answers] == [
        text[: text.index("###") + 3] for text in said
    ]
    assert dictated.steps == max(lengths)
    assert [answer.confidence for answer in answers] == pytest.approx([1.0, 1.0])


def test_other_tools_stop_by_the_ids_that_stand_in_for_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `###` is one token: no tokenizer is handed over, which `stop_strings` would need."""
    made = assemble_on("tiny", "tiny", device="cpu", precision="fp32", seed=0, template="simple")
    chat = made.chat
    assert chat.end_token_id is None
    words: Any = made.processor
    words.tokenizer.add_tokens(["###"])
    three = words.tokenizer.convert_tokens_to_ids("###")
    model: Any = made.model
    assert three < model.lm_head.out_features
    fresh = type(chat)(chat.tokenizer, chat.template)
    assert fresh.stop_token_ids == tuple(sorted([words.tokenizer.eos_token_id, three]))
    dictated = Dictated(made, ["A lung.###" + "?" * 60], monkeypatch)
    asked = torch.tensor([chat.encode_prompt(asking("a").turns, [])])
    output = model.generate(asked, do_sample=False, max_new_tokens=60, eos_token_id=list(fresh.stop_token_ids))
    assert words.tokenizer.decode(output[0, asked.shape[1] :]) == "A lung.###"
    assert dictated.steps < 20


def test_stop_strings_would_make_plain_generation_fail(ends_at_text: LoadedModel) -> None:
    """Why a folder names ids instead: what transformers does with a generation config that has `stop_strings`."""
    model: Any = ends_at_text.model
    asked = torch.tensor([ends_at_text.chat.encode_prompt(asking("a").turns, [])])
    with pytest.raises(ValueError, match="must pass the model's tokenizer"):
        model.generate(asked, max_new_tokens=2, stop_strings=["###"])
