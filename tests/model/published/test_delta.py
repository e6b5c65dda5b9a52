"""Delta + base: the reference's bits, and every wrong base found out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.delta import apply_delta, check_base, is_delta
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.tensor_files import TensorFiles

Tensors = dict[str, torch.Tensor]
WIDTH, LAYERS = 64, 3


def language_model(seed: int, rows: int = 40) -> Tensors:
    """A LLaMA's tensors in fp16, of the size that training leaves (0.02)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.02).half()

    tensors = {"model.embed_tokens.weight": normal(rows, WIDTH), "lm_head.weight": normal(rows, WIDTH)}
    for layer in range(LAYERS):
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"model.layers.{layer}.self_attn.{part}.weight"] = normal(WIDTH, WIDTH)
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    tensors["model.norm.weight"] = 1 + normal(WIDTH)
    return tensors


def tuned(base: Tensors, seed: int, by: float = 0.05) -> Tensors:
    """A fine-tuned relative: every weight moved by a share `by` of the weights' size."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value
        if "rotary" in name
        else (value.float() + by * 0.02 * torch.randn(value.shape, generator=generator)).half()
        for name, value in base.items()
    }


def llava(base: Tensors, seed: int) -> Tensors:
    """The finished model: a relative with four more words and a projector."""
    generator = torch.Generator().manual_seed(seed)
    made = tuned(base, seed)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        made[name] = torch.cat([made[name], torch.randn(4, WIDTH, generator=generator).half()])
    made["model.mm_projector.weight"] = torch.randn(WIDTH, 16, generator=generator).half()
    made["model.mm_projector.bias"] = torch.randn(WIDTH, generator=generator).half()
    return made


def minus(target: Tensors, base: Tensors) -> Tensors:
    """As the reference's make_delta: in fp16, base rows alone, what the base lacks whole."""
    made = {name: value.clone() for name, value in target.items()}
    for name, value in base.items():
        made[name][tuple(slice(size) for size in value.shape)] -= value.to(made[name].dtype)
    return made


def lazy(tensors: Tensors) -> dict[str, LazyTensor]:
    return {name: LazyTensor.of(value) for name, value in tensors.items()}


BASE = language_model(0)
TARGET = llava(BASE, 1)
DELTA = minus(TARGET, BASE)


def test_the_oracles_sum_is_the_references_bit_for_bit(shared: Path) -> None:
    folder = shared / "oracle" / "v10"
    base, delta, applied = (TensorFiles.open(folder / name) for name in ("base", "delta", "applied-llava"))
    made = apply_delta(base, delta)
    assert set(made) == {name for name in applied if not name.endswith("inv_freq")}
    for name, tensor in made.items():
        read, expected = tensor.read(), applied[name].read()
        assert (read.dtype, tuple(read.shape)) == (expected.dtype, tensor.shape)
        assert torch.equal(read.view(torch.int16), expected.view(torch.int16)), name


def test_the_oracles_base_is_recognised_and_its_relatives_are_not(shared: Path) -> None:
    folder = shared / "oracle" / "v10"
    base, delta, applied = (TensorFiles.open(folder / name) for name in ("base", "delta", "applied-llava"))
    assert "all of " in check_base(base, delta)
    relative = {name: applied[name] for name in base}
    with pytest.raises(ModelError, match="relative of it"):
        check_base(relative, delta)
    assert (is_delta(delta), is_delta(base), is_delta(applied)) == (True, False, False)


def test_a_sum_restores_the_target(tmp_path: Path) -> None:
    made = apply_delta(lazy(BASE), lazy(DELTA))
    difference = max(float((made[name].read() - TARGET[name]).abs().max()) for name in made)
    assert difference <= 2**-15, "a difference larger than the base is rounded once; nothing else is"
    assert torch.equal(made["model.embed_tokens.weight"].read()[40:], TARGET["model.embed_tokens.weight"][40:])
    assert torch.equal(made["model.mm_projector.weight"].read(), TARGET["model.mm_projector.weight"])


def test_nothing_is_read_before_it_is_wanted() -> None:
    def never() -> torch.Tensor:
        raise AssertionError("read too early")

    unread = {name: LazyTensor(one.shape, one.dtype, never) for name, one in lazy(DELTA).items()}
    assert apply_delta(unread, unread).keys() == {name for name in DELTA if "rotary" not in name}


def test_the_stored_delta_is_left_as_it_was() -> None:
    before = DELTA["model.norm.weight"].clone()
    apply_delta(lazy(BASE), lazy(DELTA))["model.norm.weight"].read()
    assert torch.equal(DELTA["model.norm.weight"], before)


@pytest.mark.parametrize("by", [0.005, 0.02, 0.1, 0.3])
def test_the_right_base_passes_however_far_training_went(by: float) -> None:
    assert "all of " in check_base(lazy(BASE), lazy(minus(tuned(BASE, 5, by), BASE)))


def test_the_right_base_passes_in_single_precision_too() -> None:
    assert "all of " in check_base(lazy({name: value.float() for name, value in BASE.items()}), lazy(DELTA))


def test_a_rounded_base_passes_with_a_warning() -> None:
    rounded = {name: value.bfloat16() for name, value in BASE.items()}
    assert "rounded to bf16" in check_base(lazy(rounded), lazy(DELTA))


def bare(tensors: Tensors) -> Tensors:
    """As many rows and tensors as a base has."""
    return {name: tensors[name][: len(BASE[name])] for name in BASE}


WRONG_BASES = {
    "another model": (language_model(7), "not made from this base: "),
    "another model, rounded": ({n: v.bfloat16() for n, v in language_model(7).items()}, "not made from this base: "),
    "another fine-tune of the base": (tuned(BASE, 8), "relative of it"),
    "the finished model": (llava(BASE, 1), "LLaVA already"),
    "the finished model without its projector": (bare(TARGET), "relative of it"),
    "the delta itself": (bare(DELTA), "a delta itself"),
}


@pytest.mark.parametrize("which", WRONG_BASES)
def test_a_wrong_base_is_found_out(which: str) -> None:
    base, said = WRONG_BASES[which]
    with pytest.raises(ModelError, match=said):
        check_base(lazy(base), lazy(DELTA))


def test_a_whole_model_is_no_delta() -> None:
    with pytest.raises(ModelError, match="no delta of this base"):
        check_base(lazy(BASE), lazy(TARGET))


def test_a_delta_that_leaves_the_language_model_alone_says_that_it_proves_nothing() -> None:
    alone = minus({**llava(BASE, 1), **{name: BASE[name] for name in BASE}}, BASE)
    assert "could not be checked" in check_base(lazy(BASE), lazy(alone))


def test_a_delta_of_finer_numbers_says_that_it_proves_nothing() -> None:
    target = {name: value.float() + 1e-3 * torch.randn(value.shape) for name, value in BASE.items()}
    finer = {name: (target[name] - BASE[name].float()).half() for name in BASE}
    assert "not computed in fp16" in check_base(lazy(BASE), lazy(finer))


def without(tensors: Mapping[str, torch.Tensor], name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}


MISFITS = {
    "a tensor the base lacks": (without(BASE, "model.norm.weight"), DELTA, "base lacks 1 .*model.norm.weight"),
    "a tensor the delta lacks": (BASE, without(DELTA, "model.norm.weight"), "delta lacks 1 .*model.norm.weight"),
    "another width": ({**BASE, "model.norm.weight": torch.ones(65).half()}, DELTA, r"norm.weight \[65\] to \[64\]"),
    "more words in the base": (language_model(0, rows=45), DELTA, r"\[45, 64\] to \[44, 64\]"),
}


@pytest.mark.parametrize("which", MISFITS)
def test_tensors_that_do_not_fit_are_listed(which: str) -> None:
    base, delta, said = MISFITS[which]
    with pytest.raises(ModelError, match=said):
        apply_delta(lazy(base), lazy(delta))
