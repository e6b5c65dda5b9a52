"""What is particular to a field, as TOML: its words, its modalities, its questions. The code holds none of them."""
