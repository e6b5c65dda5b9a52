"""What the vision tower sees. A frozen tower sees a picture the same each time: no gradient graph, and kept if it fits.

A picture comes back every epoch, and in a question set several times an epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llavamed_cli.model.images import PICTURE_READERS, open_picture
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.training.feature_cache import FeatureCache

if TYPE_CHECKING:
    import torch

PICTURES_AT_ONCE = 16


class Features(Protocol):
    """Sees pictures."""

    def of(self, pictures: Sequence[Path]) -> torch.Tensor:
        """Features of `pictures` [n, tokens, tower width], before the projector, on the model's device.

        Raises:
            PictureError: one cannot be read any more; the message names it.
        """


class LearnedFeatures:
    """Features of a tower that learns, with their gradient graph; each picture once a call, all of them together."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def of(self, pictures: Sequence[Path]) -> torch.Tensor:
        distinct = list(dict.fromkeys(pictures))
        features = _computed(self._loaded, distinct)
        return features[[distinct.index(path) for path in pictures]]


class FrozenFeatures:
    """Features of a frozen tower, without a graph, from the cache where it has them.

    On a CPU each picture goes through the tower alone, so that its features do not depend, not even by rounding, on
    which others are computed with it: a resumed run meets them in other company.
    """

    def __init__(self, loaded: LoadedModel, cache: FeatureCache | None = None) -> None:
        self._loaded = loaded
        self._cache = cache
        self._at_once = 1 if loaded.device == "cpu" else PICTURES_AT_ONCE

    def of(self, pictures: Sequence[Path]) -> torch.Tensor:
        import torch

        cache, device = self._cache, self._loaded.device
        keys = {path: cache.key(path) if cache else "" for path in pictures}
        seen: dict[Path, torch.Tensor] = {}
        for path, key in keys.items():
            found = cache.find(key) if cache else None
            if found is not None:
                seen[path] = found.to(device)
        fresh = [path for path in keys if path not in seen]
        with torch.no_grad(), torch.autocast(device, enabled=False):
            for start in range(0, len(fresh), self._at_once):
                chunk = fresh[start : start + self._at_once]
                for path, features in zip(chunk, _computed(self._loaded, chunk), strict=True):
                    seen[path] = features
                    if cache:
                        cache.keep(keys[path], features.cpu())
        return torch.stack([seen[path] for path in pictures])


def _computed(loaded: LoadedModel, pictures: Sequence[Path]) -> torch.Tensor:
    """Features of pictures [n, tokens, tower width]; several are read at a time."""
    import torch

    def pixels(picture: Path) -> torch.Tensor:
        return loaded.pixels([open_picture(picture)])

    if len(pictures) == 1:
        batch = pixels(pictures[0])
    else:
        with ThreadPoolExecutor(PICTURE_READERS) as readers:
            batch = torch.cat(list(readers.map(pixels, pictures)))
    return tower_features(loaded.model, batch.to(loaded.device, tower_dtype(loaded.model)))


def tower_features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Features of pixels [n, 3, height, width] as LLaVA feeds them to its projector: [n, tokens, tower width]."""
    import torch

    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    layers = model.config.vision_feature_layer
    first = 1 if model.config.vision_feature_select_strategy == "default" else 0
    chosen = [states[layer][:, first:] for layer in ([layers] if isinstance(layers, int) else layers)]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)


def tower_dtype(model: Any) -> torch.dtype:
    """The number format the tower is held in, and computes in where it is frozen."""
    dtype: torch.dtype = next(model.model.vision_tower.parameters()).dtype
    return dtype


def tower_key(loaded: LoadedModel) -> str:
    """A name for all that a picture's features depend on beside the picture: weights, settings, pixels, code."""
    import torch

    model: Any = loaded.model
    processor: Any = loaded.processor
    digest = hashlib.sha256()
    told = [
        model.config.vision_config.to_dict(),
        [model.config.vision_feature_layer, model.config.vision_feature_select_strategy],
        processor.image_processor.to_dict(),
        [str(tower_dtype(model)), loaded.device, *map(version, ("torch", "transformers", "pillow"))],
    ]
    digest.update(json.dumps(told, sort_keys=True, default=str).encode())
    for name, tensor in model.model.vision_tower.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
