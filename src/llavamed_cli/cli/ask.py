EXAMPLES = ""


def ask() -> None:
    """To be written."""
    raise NotImplementedError
