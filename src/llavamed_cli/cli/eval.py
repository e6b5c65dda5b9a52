EXAMPLES = ""


def evaluate() -> None:
    """To be written."""
    raise NotImplementedError
