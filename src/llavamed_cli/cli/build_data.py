EXAMPLES = ""


def build_data() -> None:
    """To be written."""
    raise NotImplementedError
