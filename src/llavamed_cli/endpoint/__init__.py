"""A paid server behind an OpenAI-compatible address: asked many things at once, each journaled and paid for once."""
