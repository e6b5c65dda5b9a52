"""The corpus room: sources are found, screened, written about, and become samples to learn from."""
