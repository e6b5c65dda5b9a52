"""A phantom's caption: one plain sentence that says all of its truth, and that it is a phantom."""

from __future__ import annotations

from llavamed_cli.phantoms.kinds import FINDING_NAMES, PLURALS, FindingName
from llavamed_cli.phantoms.truth import Finding, Phantom


def caption(phantom: Phantom) -> str:
    """E.g. "A phantom CT scan of the abdomen with two large masses on the left and no cyst, with a scale bar."."""
    truth = phantom.truth
    seen = " and ".join(_phrase(name, truth.finding(name)) for name in FINDING_NAMES)
    bar = "with a scale bar" if truth.scale_bar else "without a scale bar"
    return f"A phantom {truth.kind.image} of {truth.kind.shown} with {seen}, {bar}."


def _phrase(name: FindingName, finding: Finding | None) -> str:
    if finding is None:
        return f"no {name}"
    counted = f"one {finding.size} {name}" if finding.count == 1 else f"two {finding.size} {PLURALS[name]}"
    return f"{counted} on the {finding.side}"
