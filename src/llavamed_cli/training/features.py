"""What the frozen vision tower sees, computed without a gradient graph and kept in memory while there is room.

A picture comes back every epoch, and in a question set several times an epoch: its features are the same each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import LoadedModel

if TYPE_CHECKING:
    import torch

CACHE_BYTES = 2 * 2**30
PICTURES_AT_ONCE = 16


class FrozenFeatures:
    """The tower's features of picture files, before the projector.

    Args:
        limit: bytes of features to keep; a picture beyond it is computed each time it is met.
    """

    def __init__(self, loaded: LoadedModel, limit: int = CACHE_BYTES) -> None:
        self._loaded = loaded
        self._limit = limit
        self._used = 0
        self._kept: dict[Path, torch.Tensor] = {}

    def of(self, pictures: Sequence[Path]) -> torch.Tensor:
        """Features of `pictures` [n, tokens, tower width], on the model's device."""
        import torch

        fresh = [path for path in dict.fromkeys(pictures) if path not in self._kept]
        computed: dict[Path, torch.Tensor] = {}
        for start in range(0, len(fresh), PICTURES_AT_ONCE):
            chunk = fresh[start : start + PICTURES_AT_ONCE]
            computed.update(zip(chunk, self._compute(chunk), strict=True))
        for path, features in computed.items():
            size = features.numel() * features.element_size()
            if self._used + size <= self._limit:
                self._kept[path] = features
                self._used += size
        chosen = [computed[path] if path in computed else self._kept[path] for path in pictures]
        return torch.stack(chosen).to(self._loaded.device)

    def _compute(self, pictures: Sequence[Path]) -> list[torch.Tensor]:
        model: Any = self._loaded.model
        pixels = self._loaded.pixels([open_picture(path) for path in pictures])
        return list(tower_features(model, pixels.to(self._loaded.device, model.dtype)).cpu())


def tower_features(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Features of pixels [n, 3, height, width] as LLaVA feeds them to its projector: [n, tokens, tower width]."""
    import torch

    with torch.no_grad():
        states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        features = states[model.config.vision_feature_layer]
    return features[:, 1:] if model.config.vision_feature_select_strategy == "default" else features
