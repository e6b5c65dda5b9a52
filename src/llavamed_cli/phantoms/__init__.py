"""Phantoms: synthetic pictures with exact truth, drawn by code, of no patient; CI trains on them.

They buy certainty at the price of realism: what is in each picture is known to the pixel, and no closed question can be
answered better than by chance without looking at the picture. Nothing about patients can be learnt from them.

Importing this package imports neither numpy nor PIL; drawing does.
"""

from llavamed_cli.phantoms.captions import caption
from llavamed_cli.phantoms.questions import PhantomQuestion, questions
from llavamed_cli.phantoms.truth import CITATION, Disc, Finding, Phantom, Pose, Truth, draw_phantoms

__all__ = [
    "CITATION",
    "Disc",
    "Finding",
    "Phantom",
    "PhantomQuestion",
    "Pose",
    "Truth",
    "caption",
    "draw_phantoms",
    "questions",
]
