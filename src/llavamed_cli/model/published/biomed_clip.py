"""BiomedCLIP whole, both halves, as open_clip publishes it: a picture and a text as vectors of one space.

timm's ViT, its class token after the final norm, times a matrix; a BERT, its first token's last state, through one or
two matrices (open_clip, src/open_clip/timm_model.py and hf_model.py). Both halves are Hugging Face's models here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.open_clip import (
    OPEN_CLIP_CONFIG,
    OpenClipVision,
    model_and_vision,
    named_by_open_clip,
    vision_half,
)
from llavamed_cli.model.published.tensor_files import TensorFiles
from llavamed_cli.model.published.tensor_shapes import check_shapes
from llavamed_cli.model.published.tower_settings import read_settings
from llavamed_cli.model.published.tower_tensors import account, tower_class

if TYPE_CHECKING:
    import torch
    from transformers import BertConfig

BERT, IMAGE_LAYER, SCALE = "text.transformer.", "visual.head.proj.weight", "logit_scale"
PROJECTIONS = {"mlp": ("text.proj.0.weight", "text.proj.2.weight"), "linear": ("text.proj.weight",)}
"""The matrices behind the BERT by `hf_proj_type`; a GELU stands between two."""
POOLER = "cls_last_hidden_state_pooler"
CONTEXT = 256
"""BiomedCLIP's, where text_cfg names none."""
HEAD_WIDTH = 64
"""Of BERT's attention: no open_clip config tells it, and every BERT of Google's and Microsoft's has it."""
NUMBERS = "embeddings.position_ids"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")


@dataclass(frozen=True)
class BiomedClip:
    """Both halves, with the two methods of transformers' CLIPModel that give features.

    image_layer: [shared width, picture width]. text_layers: one or two matrices, the last to [shared width, ...].
    """

    vision: Any = field(repr=False)
    text: Any = field(repr=False)
    image_layer: torch.Tensor = field(repr=False)
    text_layers: tuple[torch.Tensor, ...] = field(repr=False)
    logit_scale: torch.Tensor

    def to(self, device: str) -> BiomedClip:
        """The same on another device; the halves themselves are moved."""
        return replace(
            self,
            vision=self.vision.to(device),
            text=self.text.to(device),
            image_layer=self.image_layer.to(device),
            text_layers=tuple(layer.to(device) for layer in self.text_layers),
            logit_scale=self.logit_scale.to(device),
        )

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pixels [pictures, 3, size, size] as float [pictures, shared width]."""
        states = self.vision(pixel_values).last_hidden_state
        return states[:, 0] @ self.image_layer.T

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token ids [texts, length] as float [texts, shared width]."""
        from torch.nn.functional import gelu

        states: torch.Tensor = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        first, *rest = self.text_layers
        features = states[:, 0] @ first.T
        for layer in rest:
            features = gelu(features) @ layer.T
        return features


@dataclass(frozen=True)
class BiomedClipFolder:
    """A loaded BiomedCLIP and what feeds it. longest: tokens of a text, ends included."""

    model: BiomedClip
    tokenizer: Any = field(repr=False)
    vision: OpenClipVision
    longest: int


def is_open_clip(folder: Path) -> bool:
    """Whether a folder is one of open_clip's: its config lies there, and its weights are named by it."""
    return (folder / OPEN_CLIP_CONFIG).is_file() and named_by_open_clip(TensorFiles.open(folder))


def load_biomed_clip(folder: Path) -> BiomedClipFolder:
    """Load a BiomedCLIP in 32-bit numbers, on the CPU.

    Raises:
        ModelError: another kind of open_clip model, no tokenizer, or tensors missing, left over or of another shape.
    """
    stored = TensorFiles.open(folder)
    settings = read_settings(folder / OPEN_CLIP_CONFIG)
    text_settings = _text_settings(settings, folder)
    vision = vision_half(folder, stored)
    accounted = account(vision.config, vision.tensors, folder)
    text = _bert_tensors(stored)
    config = _bert_config(text, folder)
    layers = PROJECTIONS[text_settings["hf_proj_type"]]
    _check_rest(stored, config, vision, layers, folder)
    tokenizer = _tokenizer(folder, config.vocab_size)
    try:
        model = BiomedClip(
            vision=_model(tower_class(vision.config), vision.config, accounted.tensors),
            text=_model(_bert_class(), config, text, add_pooling_layer=False),
            image_layer=stored[IMAGE_LAYER].read().float(),
            text_layers=tuple(stored[name].read().float() for name in layers),
            logit_scale=stored[SCALE].read().float(),
        )
    except Exception as error:  # a file that is damaged behind its header fails when it is read
        raise ModelError(f"the weights cannot be read: {first_line(error)}", where=str(folder)) from error
    longest = min(int(text_settings.get("context_length") or CONTEXT), config.max_position_embeddings)
    return BiomedClipFolder(model, tokenizer, vision, longest)


def _text_settings(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`text_cfg`, after checking that both halves end as BiomedCLIP's do."""
    where = str(folder / OPEN_CLIP_CONFIG)
    model, vision = model_and_vision(settings, folder)
    text = model.get("text_cfg")
    if not isinstance(text, dict) or "hf_model_name" not in text or "timm_model_name" not in vision:
        raise ModelError("of open_clip's models, those of a timm ViT and a BERT (BiomedCLIP) are read", where=where)
    ends = {
        "hf_proj_type": (text.get("hf_proj_type"), tuple(PROJECTIONS)),
        "hf_pooler_type": (text.get("hf_pooler_type", POOLER), (POOLER,)),
        "timm_pool": (vision.get("timm_pool", ""), ("", "token")),
        "timm_proj": (vision.get("timm_proj"), ("linear",)),
    }
    for name, (found, known) in ends.items():
        if found not in known:
            raise ModelError(f"{name} is {found!r}; known here: {', '.join(map(repr, known))}", where=where)
    return text


def _bert_tensors(stored: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    bare = {name.removeprefix(BERT): tensor for name, tensor in stored.items() if name.startswith(BERT)}
    bare.pop(NUMBERS, None)
    return bare


def _bert_config(tensors: Mapping[str, LazyTensor], folder: Path) -> BertConfig:
    """The BERT that these tensors are of: open_clip's config has no more than its name."""
    from transformers import BertConfig

    needed = {part: f"embeddings.{part}_embeddings.weight" for part in ("word", "position", "token_type")} | {
        "middle": "encoder.layer.0.intermediate.dense.weight"
    }
    absent = [name for name in needed.values() if name not in tensors or len(tensors[name].shape) != 2]
    if absent:
        raise ModelError(f"its text half is no BERT: it lacks {BERT}{absent[0]}", where=str(folder))
    rows, width = tensors[needed["word"]].shape
    return BertConfig(
        vocab_size=rows,
        hidden_size=width,
        num_hidden_layers=len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        intermediate_size=tensors[needed["middle"]].shape[0],
        max_position_embeddings=tensors[needed["position"]].shape[0],
        type_vocab_size=tensors[needed["token_type"]].shape[0],
    )


def _check_rest(
    stored: Mapping[str, LazyTensor], config: BertConfig, vision: OpenClipVision, layers: tuple[str, ...], folder: Path
) -> None:
    """Everything but the vision tower, which is accounted for by itself."""
    import torch

    with torch.device("meta"):
        bert = _bert_class()(config, add_pooling_layer=False)
    expected = {BERT + name: tuple(tensor.shape) for name, tensor in bert.state_dict().items()}
    shared = stored[IMAGE_LAYER].shape[0] if IMAGE_LAYER in stored else 0
    widths = [config.hidden_size, *([(config.hidden_size + shared) // 2] if len(layers) == 2 else []), shared]
    expected.update({name: (widths[at + 1], widths[at]) for at, name in enumerate(layers)})
    expected[IMAGE_LAYER] = (shared, vision.config.hidden_size)
    expected[SCALE] = ()
    found = {
        name: tensor
        for name, tensor in stored.items()
        if name != BERT + NUMBERS and (not name.startswith("visual.") or name.startswith("visual.head."))
    }
    check_shapes(expected, found, "the tensors are not those of a BiomedCLIP", str(folder))


def _bert_class() -> Any:
    from transformers import BertModel

    return BertModel


def _model(made: Any, config: Any, tensors: Mapping[str, LazyTensor], **options: Any) -> Any:
    import torch

    return made.from_pretrained(None, config=config, state_dict=dict(tensors), dtype=torch.float32, **options).eval()


def _tokenizer(folder: Path, rows: int) -> Any:
    from transformers import BertTokenizerFast

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"no tokenizer lies there ({' or '.join(TOKENIZER_FILES)})",
            where=str(folder),
            hint="Copy the tokenizer files that BiomedCLIP is published with into the folder.",
        )
    try:
        tokenizer = BertTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a stranger's files: parsers raise whatever they stumble over
        raise ModelError(f"the tokenizer cannot be loaded: {first_line(error)}", where=str(folder)) from error
    if len(tokenizer) > rows:
        raise ModelError(f"the tokenizer has {len(tokenizer)} tokens, the model {rows}", where=str(folder))
    return tokenizer
