"""`kubectl optimodel`: see how a model stands, and act on its rollout."""

from .main import main

__all__ = ["main"]
