"""One answer as it comes: what a batch gives, and what plain transformers gives, also on top of a kept cache."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from PIL import Image

from llavamed_cli.errors import DataError, ModelError
from llavamed_cli.model.assemble import assemble_on
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.running_answer import KeptCache, RunningAnswer
from llavamed_cli.records import Turn

LENGTH = 12


def asking(text: str, *pictures: Image.Image, before: tuple[Turn, ...] = ()) -> Prompt:
    return Prompt(turns=(*before, Turn(speaker="human", text=text)), pictures=pictures)


def stripes(seed: int) -> Image.Image:
    noise = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray((noise * 255).to(torch.uint8).numpy()).resize((50 + seed, 40))


def run(
    loaded: LoadedModel, prompt: Prompt, kept: KeptCache | None = None, length: int = LENGTH, **how: Any
) -> RunningAnswer:
    """A finished answer; its pieces joined are the text."""
    running = RunningAnswer(loaded, prompt, Decoding(max_new_tokens=length, **how), kept=kept)
    text = "".join(running.pieces())
    assert running.generated is not None
    assert text.strip() == running.generated.text
    return running


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


def test_it_says_what_a_batch_says(loaded: LoadedModel) -> None:
    prompts = [
        asking("<image>\nWhat is it?", stripes(0)),
        asking("What is a lung?"),
        asking("<image>\n<image>\nWhich is larger?", stripes(1), stripes(2)),
    ]
    for prompt in prompts:
        running = run(loaded, prompt)
        expected = answer_batch(loaded, [prompt], max_new_tokens=LENGTH)[0]
        assert running.generated is not None
        assert running.generated.token_ids == expected.token_ids
        assert running.generated.confidence == pytest.approx(expected.confidence, rel=1e-5)
        assert running.to_first is not None and running.to_first > 0


def test_a_kept_cache_changes_no_answer_and_spares_the_picture(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    look = LoadedModel.pixels
    monkeypatch.setattr(LoadedModel, "pixels", lambda self, shown: looked.append(len(shown)) or look(self, shown))
    one, two, three = stripes(1), stripes(2), stripes(3)
    talked = (Turn(speaker="human", text="<image>\nWhat is it?"), Turn(speaker="gpt", text="A lung"))
    prompts = [
        (asking("<image>\nWhat is it?", one), 1),
        (asking("<image>\nWhich organ?", one), 0),
        (asking("Sure?", one, before=talked), 0),
        (asking("<image>\nAnd this?", one, two, before=talked), 1),
        (asking("<image>\n<image>\nWhat changed?", one, three), 1),
        (asking("<image>\nWhat is it?", three), 1),
        (asking("<image>\nWhat is it?", three), 0),
        (asking("No picture?"), 0),
    ]
    kept: KeptCache | None = None
    for prompt, pictures in prompts:
        looked.clear()
        running = run(loaded, prompt, kept)
        assert sum(looked) == pictures, prompt
        assert kept is None or running.reused > 0
        kept = running.kept
        assert kept is not None and len(kept.ids) == kept.cache.get_seq_length()
        alone = answer_batch(loaded, [prompt], max_new_tokens=LENGTH)[0]
        assert running.generated is not None
        assert running.generated.token_ids == alone.token_ids
        assert running.generated.confidence == pytest.approx(alone.confidence, rel=1e-4)


def test_a_like_picture_in_another_object_is_looked_at_again(loaded: LoadedModel) -> None:
    first = run(loaded, asking("<image>\nWhat is it?", stripes(1)))
    second = run(loaded, asking("<image>\nWhat is it?", stripes(1)), first.kept)
    picture = loaded.chat.encode_prompt((Turn(speaker="human", text="<image>\nWhat is it?"),), [loaded.image_length])
    assert second.reused == picture.index(loaded.chat.image_token_id)


def test_it_may_be_left_early_and_then_holds_what_was_taken(loaded: LoadedModel) -> None:
    running = RunningAnswer(loaded, asking("What is a lung?"), Decoding(max_new_tokens=500))
    pieces: Any = running.pieces()
    taken = next(pieces)
    pieces.close()
    assert running.finish == "interrupted"
    assert running.generated is not None
    assert running.generated.text == taken.strip()
    assert len(running.generated.token_ids) < 500
    again = run(loaded, asking("What is a lung?"), running.kept)
    assert again.generated is not None
    assert (
        again.generated.token_ids == answer_batch(loaded, [asking("What is a lung?")], max_new_tokens=12)[0].token_ids
    )


def test_words_come_while_the_model_still_works(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's fourth step waits until a piece was read."""
    model: Any = loaded.model
    plain, read, steps = model.lm_head.forward, Event(), []

    def wait(states: torch.Tensor) -> torch.Tensor:
        steps.append(1)
        assert len(steps) != 4 or read.wait(30), "nothing came"
        return plain(states)

    monkeypatch.setattr(model.lm_head, "forward", wait)
    pieces = RunningAnswer(loaded, asking("What is a lung?"), Decoding(max_new_tokens=LENGTH)).pieces()
    assert next(pieces)
    read.set()
    assert list(pieces)


def test_how_it_ended_is_told(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(loaded, asking("a"), length=1).finish == "length"
    model: Any = loaded.model
    plain, end = model.lm_head.forward, loaded.chat.end_token_id

    def prefer_end(states: torch.Tensor) -> torch.Tensor:
        logits = plain(states)
        logits[..., end] = 1e4
        return logits

    monkeypatch.setattr(model.lm_head, "forward", prefer_end)
    ended = run(loaded, asking("a"), length=1)
    assert ended.finish == "end"
    assert ended.generated is not None and ended.generated.text == ""


def out_of_memory(self: LoadedModel, shown: list[Image.Image]) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_fault_in_the_models_thread_reaches_the_caller(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoadedModel, "pixels", lambda self, shown: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(RunningAnswer(loaded, asking("<image>\nWhat?", stripes(0)), Decoding()).pieces())
    monkeypatch.setattr(LoadedModel, "pixels", out_of_memory)
    with pytest.raises(ModelError, match="memory of cpu"):
        list(RunningAnswer(loaded, asking("<image>\nWhat?", stripes(0)), Decoding()).pieces())
    with pytest.raises(DataError, match="control token"):
        RunningAnswer(loaded, asking("<|im_end|>"), Decoding())


def test_drawing_is_repeated_by_its_seed_and_leaves_torchs_own_alone(loaded: LoadedModel) -> None:
    prompt = asking("What is a lung?")
    before = torch.random.get_rng_state()
    drawn = [run(loaded, prompt, temperature=1.5, seed=seed).generated for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.random.get_rng_state(), before)
    narrow = run(loaded, prompt, temperature=1.5, top_p=1e-6, seed=3).generated
    greedy = run(loaded, prompt).generated
    assert narrow is not None and greedy is not None
    assert narrow.token_ids == greedy.token_ids


def test_what_the_answer_could_have_begun_with(loaded: LoadedModel) -> None:
    """Against the model asked directly."""
    prompt = asking("<image>\nIs it a lung?", stripes(0))
    running = run(loaded, prompt)
    model: Any = loaded.model
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([running.prompt_ids]), pixel_values=loaded.pixels(list(prompt.pictures))
        ).logits[0, -1]
    likeliest = logits.softmax(-1).topk(3)
    assert running.generated is not None
    told = running.generated.beginnings
    assert [tokens for tokens, _ in told] == [(token,) for token in likeliest.indices.tolist()]
    assert [share for _, share in told] == pytest.approx(likeliest.values.tolist(), rel=1e-4)
    second = told[1][0]
    forced = RunningAnswer(loaded, prompt, Decoding(max_new_tokens=LENGTH), kept=running.kept, begun=second)
    "".join(forced.pieces())
    assert forced.generated is not None and forced.generated.token_ids[:1] == second


# ---- answers that end at a text, after a role that the model writes itself


def test_it_ends_at_the_stop_text_and_begins_behind_the_role(monkeypatch: pytest.MonkeyPatch) -> None:
    ends_at_text = assemble_on("tiny", "tiny", device="cpu", precision="fp32", seed=0, template="simple")
    model, processor = ends_at_text.model, ends_at_text.processor
    words: Any = processor
    ids = words.tokenizer("Assistant: A lung #1.\n###" + "?" * 60)["input_ids"]
    steps = 0
    plain = model.lm_head.forward

    def say(states: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        logits: torch.Tensor = plain(states)
        logits[0, -1, ids[steps]] = 1e4
        steps += 1
        return logits

    monkeypatch.setattr(model.lm_head, "forward", say)
    running = RunningAnswer(ends_at_text, asking("a"), Decoding(max_new_tokens=60))
    pieces = list(running.pieces())
    assert "".join(pieces) == "A lung #1."
    assert len(pieces) > 1
    assert steps < 40
    assert running.finish == "end"
    assert running.generated is not None
    begun, share = running.generated.beginnings[0]
    assert words.tokenizer.decode(begun).endswith("A") and share == pytest.approx(1.0)
