EXAMPLES = ""


def tune() -> None:
    """To be written."""
    raise NotImplementedError
