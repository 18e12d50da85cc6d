"""The Triton model repository of one artifact: an ensemble under the public name over tokenizer or image
processor, core and head.

`write` is what the init container calls; `configs`, `interface` and `lengths` are pure. Only this room knows Triton's
config format.
"""

from .layout import PROBE, Settings, cpus, describe, write
from .models import Description, Image, configs, encoded, interface, lengths
from .tasks import SERVED, Served

__all__ = [
    "PROBE",
    "SERVED",
    "Description",
    "Image",
    "Served",
    "Settings",
    "configs",
    "cpus",
    "describe",
    "encoded",
    "interface",
    "lengths",
    "write",
]
