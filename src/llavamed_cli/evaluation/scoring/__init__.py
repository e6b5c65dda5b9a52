"""Scores: `reference` repeats the published formulae with their quirks, `strict` says what was right."""
