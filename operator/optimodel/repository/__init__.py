"""The Triton model repository of one artifact: an ensemble under the public name over tokenizer, core and head.

`write` is what the init container calls; `configs`, `interface` and `lengths` are pure. Only this room knows Triton's
config format.
"""

from .layout import PROBE, Settings, cpus, describe, write
from .models import Description, configs, interface, lengths, tokenized
from .tasks import SERVED, Served

__all__ = [
    "PROBE",
    "SERVED",
    "Description",
    "Served",
    "Settings",
    "configs",
    "cpus",
    "describe",
    "interface",
    "lengths",
    "tokenized",
    "write",
]
