"""The training room: samples are encoded, packed into rows without padding, and learned from."""
