"""Where the model comes from: list, refuse what is unsafe, fetch only what is needed, check what arrived."""

from .checks import Listing, check_folder, choose, head, weight_bytes
from .fetch import fetch

__all__ = ["Listing", "check_folder", "choose", "fetch", "head", "weight_bytes"]
