"""Answers made together are those that plain `generate` makes of each question alone: tokens, and confidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from llavamed_cli.errors import DataError, ModelError
from llavamed_cli.model import answer_many as module
from llavamed_cli.model.answer_many import answer_many
from llavamed_cli.model.answer_room import AnswerRoom
from llavamed_cli.model.assemble import assemble_on
from llavamed_cli.model.chat_templates import template_for
from llavamed_cli.model.generate import Generated, Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.tiny import byte_tokenizer
from llavamed_cli.records import Turn

LENGTH = 24
PLENTY = AnswerRoom(kept=10**6, read=10**6)
WINDOW = 40  # shorter than a picture's 64 tokens
small: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "vocab_size": 320,
    "pad_token_id": 0,
    "bos_token_id": None,
}
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**small),
    "mistral": MistralConfig(**small, sliding_window=None),
    "mistral, windows": MistralConfig(**small, sliding_window=WINDOW),
    "qwen2": Qwen2Config(**small),
    "qwen2, windows in one layer": Qwen2Config(
        **small, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2
    ),
    "qwen3": Qwen3Config(**small, head_dim=8),
    "gemma": GemmaConfig(**small, head_dim=8),
    "phi3": Phi3Config(**small, eos_token_id=None),
    "mixtral": MixtralConfig(**small, num_local_experts=3),
    "phi": PhiConfig(**small),
    "olmo2": Olmo2Config(**small, eos_token_id=None),
}
OTHERS: dict[str, Any] = {
    "attention of its own": StableLmConfig(**small),
    "rope by length": LlamaConfig(**small, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
}


def open_model(folder: Path, config: Any, *, template: str = "chatml", ends: int = 12) -> LoadedModel:
    """A LLaVA around a random language model; `ends` of its tokens end an answer, so that answers differ in length."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template_for(template, tokenizer)
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    loaded = assemble_on(str(folder), "tiny", device="cpu", precision="fp32", seed=0, template=template)
    model: Any = loaded.model
    model.generation_config.eos_token_id = sorted({model.generation_config.eos_token_id[0], *range(40, 40 + ends)})
    return loaded


def picture(seed: int) -> Image.Image:
    noise = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray((noise * 255).to(torch.uint8).numpy()).resize((48, 40))


def asking(text: str, *pictures: Image.Image) -> Prompt:
    return Prompt((Turn(speaker="human", text="<image>\n" * len(pictures) + text),), pictures)


TEXTS = ["What?", "What is it?", "Is it a lung?", "Where, and how large, is the mass that is seen?", "Why?"]


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Several questions about two pictures, one about a third, blind ones, two pictures at once, a conversation."""
    pictures = [picture(number) for number in range(3)]
    talk = (Turn(speaker="human", text="<image>\nIs it a lung?"), Turn(speaker="gpt", text="Yes"))
    return [
        *(asking(text, pictures[0]) for text in TEXTS),
        asking("Both?", pictures[0], pictures[1]),
        *(asking(text, pictures[1]) for text in TEXTS[::-1]),
        asking(TEXTS[0], pictures[2]),
        *(asking(text) for text in TEXTS),
        Prompt((*talk, Turn(speaker="human", text="Sure?")), (pictures[0],)),
    ]


def alone(loaded: LoadedModel, prompts: list[Prompt], length: int = LENGTH) -> list[Generated]:
    return [answer_batch(loaded, [prompt], max_new_tokens=length)[0] for prompt in prompts]


def check(found: list[Generated], expected: list[Generated]) -> None:
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.confidence for one in found] == pytest.approx([one.confidence for one in expected], abs=1e-5, rel=0)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LoadedModel]:
    """Models by family and template, each made once."""
    made: dict[tuple[str, str], LoadedModel] = {}

    def open_once(name: str, template: str = "chatml") -> LoadedModel:
        if (name, template) not in made:
            folder = tmp_path_factory.mktemp("words")
            made[name, template] = open_model(folder, {**FAMILIES, **OTHERS}[name], template=template)
        return made[name, template]

    return open_once


@pytest.mark.parametrize("name", FAMILIES)
def test_families_answer_as_one_by_one(
    name: str, opened: Callable[..., LoadedModel], prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = opened(name)
    expected = alone(loaded, prompts)
    lengths = Counter(len(one.token_ids) for one in expected)
    assert len(lengths) > 1, "all answers are equally long: nothing ends before another"
    monkeypatch.setattr(module, "answer_batch", None)
    check(answer_many(loaded, prompts, max_new_tokens=LENGTH), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_share_answers_in_padded_batches(
    name: str, opened: Callable[..., LoadedModel], prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = opened(name)
    monkeypatch.setattr(module, "_Work", None)
    check(answer_many(loaded, prompts, max_new_tokens=LENGTH), alone(loaded, prompts))


@pytest.mark.parametrize("template", ["mistral_instruct", "vicuna_v1", "simple", "v0"])
def test_templates_answer_as_one_by_one(
    template: str, opened: Callable[..., LoadedModel], prompts: list[Prompt]
) -> None:
    """`simple` puts a single picture behind its question, so that it stands in every branch; both end at a text."""
    loaded = opened("llama", template)
    check(answer_many(loaded, prompts, max_new_tokens=LENGTH), alone(loaded, prompts))


@pytest.fixture(scope="module")
def llama(opened: Callable[..., LoadedModel]) -> LoadedModel:
    return opened("llama")


@pytest.fixture(scope="module")
def expected(llama: LoadedModel, prompts: list[Prompt]) -> list[Generated]:
    return alone(llama, prompts)


@pytest.mark.parametrize(
    "room", [AnswerRoom(300, 10**6), AnswerRoom(1, 1), AnswerRoom(10**6, 150), AnswerRoom(700, 90)], ids=str
)
def test_little_room_changes_nothing(
    room: AnswerRoom, llama: LoadedModel, prompts: list[Prompt], expected: list[Generated]
) -> None:
    check(answer_many(llama, prompts, max_new_tokens=LENGTH, room=room), expected)


@pytest.mark.parametrize("length", [1, 2, 9, 60])
def test_answers_of_any_length(length: int, llama: LoadedModel, prompts: list[Prompt]) -> None:
    """Up to 60 tokens: buffers grow, and answered pictures leave them."""
    check(answer_many(llama, prompts, max_new_tokens=length), alone(llama, prompts, length))


def test_a_text_that_ends_answers_ends_each_by_itself(opened: Callable[..., LoadedModel]) -> None:
    """The end is a text of three tokens that a random model hardly says, so it is made to end at what it does say."""
    loaded = opened("llama", "simple")
    asked = [asking(text, picture(5)) for text in TEXTS]
    said = [answer.text for answer in alone(loaded, asked)]
    stop = next(text[2:4] for text in said if len(text) > 6 and text[2:4].isascii())
    object.__setattr__(loaded.chat.shape, "stop", stop)
    try:
        expected = alone(loaded, asked)
        assert len({len(one.token_ids) for one in expected}) > 1
        check(answer_many(loaded, asked, max_new_tokens=LENGTH), expected)
    finally:
        object.__setattr__(loaded.chat.shape, "stop", "###")


def test_a_folders_repetition_penalty_is_applied(
    llama: LoadedModel, prompts: list[Prompt], expected: list[Generated], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = llama.model
    monkeypatch.setattr(model.generation_config, "repetition_penalty", 1.5)
    penalised = alone(llama, prompts)
    assert [one.token_ids for one in penalised] != [one.token_ids for one in expected]
    check(answer_many(llama, prompts, max_new_tokens=LENGTH), penalised)


def test_settings_that_only_generate_knows_are_left_to_it(
    llama: LoadedModel, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = llama.model
    monkeypatch.setattr(model.generation_config, "no_repeat_ngram_size", 2)
    check(answer_many(llama, prompts, max_new_tokens=LENGTH), alone(llama, prompts))


class Counted:
    """Counts what goes through a model: pictures through the tower, rows and tokens through the first layer."""

    def __init__(self, loaded: LoadedModel) -> None:
        model: Any = loaded.model
        self.pictures = 0
        self.rows: list[tuple[int, int]] = []
        self.scored: list[int] = []
        self._hooks = [
            model.model.vision_tower.register_forward_hook(self._look, with_kwargs=True),
            model.model.language_model.layers[0].register_forward_pre_hook(self._read),
            model.lm_head.register_forward_pre_hook(self._score),
        ]

    def _look(self, tower: Any, inputs: Any, options: Any, output: Any) -> None:
        self.pictures += output.hidden_states[0].shape[0]

    def _read(self, layer: Any, inputs: Any) -> None:
        self.rows.append(tuple(inputs[0].shape[:2]))

    def _score(self, head: Any, inputs: Any) -> None:
        self.scored.append(inputs[0][..., 0].numel())

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


@pytest.fixture
def counted(llama: LoadedModel) -> Iterator[Counted]:
    made = Counted(llama)
    yield made
    made.close()


def test_pictures_prefixes_and_repeated_questions_are_computed_once(llama: LoadedModel, counted: Counted) -> None:
    pictures = [picture(number) for number in range(2)]
    texts = ["What?", "Where is it?", "What?"]
    asked = [asking(text, one) for one in pictures for text in texts]
    answers = answer_many(llama, asked, max_new_tokens=1, room=PLENTY)
    assert counted.pictures == 2
    ids = [llama.chat.encode_prompt(one.turns, [llama.image_length]) for one in asked]
    whole, second = len(ids[0]), len(ids[1])
    shared = next(place for place in range(whole) if ids[0][place] != ids[1][place])
    assert counted.rows == [(1, 2 * (whole + second - shared))]
    assert shared > llama.image_length
    assert counted.scored == [4]
    assert answers[0] == answers[2]


def test_blind_questions_share_the_system_prefix(llama: LoadedModel, counted: Counted) -> None:
    asked = [replace(asking(text), system="You read films. " * 4) for text in TEXTS[:3]]
    found = answer_many(llama, asked, max_new_tokens=LENGTH, room=PLENTY)
    tokens = counted.rows[0][1]
    assert tokens < sum(len(llama.chat.encode_prompt(one.turns, (), system=one.system)) for one in asked) - 2 * 64
    check(found, alone(llama, asked))


def test_a_question_that_ended_is_computed_no_more(llama: LoadedModel, counted: Counted, prompts: list[Prompt]) -> None:
    answers = answer_many(llama, prompts, max_new_tokens=LENGTH, room=PLENTY)
    lengths = [len(answer.token_ids) for answer in answers]
    assert counted.scored == [sum(length >= step for length in lengths) for step in range(1, max(lengths) + 1)]
    assert counted.rows[-len(counted.scored) + 1 :] == [(1, count) for count in counted.scored[1:]]


def test_the_model_attends_as_before_afterwards(llama: LoadedModel, prompts: list[Prompt]) -> None:
    model: Any = llama.model
    before = model.config.text_config._attn_implementation
    answer_many(llama, prompts[:2], max_new_tokens=2)
    assert model.config.text_config._attn_implementation == before
    with pytest.raises(DataError, match="control token"):
        answer_many(llama, [asking("<|im_end|>")], max_new_tokens=2)
    assert model.config.text_config._attn_implementation == before


def test_where_memory_runs_out_halves_are_tried(
    llama: LoadedModel, prompts: list[Prompt], expected: list[Generated], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, tried = module._answered, []

    def scarce(work: Any, stems: Any, kernel: str) -> Any:
        questions = sum(len(stem.members) for stem in stems)
        tried.append(questions)
        if questions > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(work, stems, kernel)

    monkeypatch.setattr(module, "_answered", scarce)
    check(answer_many(llama, prompts, max_new_tokens=LENGTH, room=PLENTY), expected)
    assert tried[0] == len(prompts)

    monkeypatch.setattr(module, "_answered", lambda *given: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(ModelError, match="memory ran out on a question of"):
        answer_many(llama, prompts[:3], max_new_tokens=LENGTH, room=PLENTY)


def test_nothing_asked_nothing_answered(llama: LoadedModel) -> None:
    assert answer_many(llama, [], max_new_tokens=3) == []


def test_half_precision_answers_without_fault(llama: LoadedModel, prompts: list[Prompt], tmp_path: Path) -> None:
    loaded = open_model(tmp_path, FAMILIES["llama"])
    model: Any = loaded.model
    loaded = replace(loaded, model=model.to(torch.bfloat16))
    answers = answer_many(loaded, prompts, max_new_tokens=3)
    assert all(0 < answer.confidence <= 1 and answer.token_ids for answer in answers)
    first = alone(loaded, prompts, 1)
    same = [one.token_ids[0] == other.token_ids[0] for one, other in zip(answers, first, strict=True)]
    assert sum(same) >= len(same) - 3  # close calls fall otherwise
