"""`qgf demo`."""


def demo() -> None:
    """Demo."""
