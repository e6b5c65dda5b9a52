"""llavamed: build, train, evaluate and ask biomedical vision-language models.

Not a medical device; research use only.
"""

from importlib.metadata import version

__version__ = version("llavamed")
__all__ = ["__version__"]
