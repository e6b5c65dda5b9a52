EXAMPLES = ""


def align() -> None:
    """To be written."""
    raise NotImplementedError
