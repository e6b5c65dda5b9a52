"""Readers of checkpoints as others published them: one layout each, tensor by tensor, into HF's LLaVA."""
