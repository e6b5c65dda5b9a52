"""The model room: one LLaVA, assembled, loaded, fed, quoted and saved the same way for every command."""
