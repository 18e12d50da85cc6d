"""Where the model comes from: list, refuse what is unsafe, fetch only what is needed, check what arrived."""

from .checks import Listing, check_folder, choose, head, weight_bytes
from .fetch import fetch
from .resolve import Models, resolve

__all__ = ["Listing", "Models", "check_folder", "choose", "fetch", "head", "resolve", "weight_bytes"]
