"""What stands before the graph of a model of images: the bytes of a PNG or JPEG to pixel values.

Runs inside Triton's processor and in the worker, so that what is learnt from and measured is what is served. Resizing, cropping
and normalising are those of transformers' image processors on Pillow. Needs numpy and Pillow only.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array: TypeAlias = NDArray[Any]
Settings: TypeAlias = Mapping[str, Any]
"""`image` of the artifact's `model.json`."""

MAX_IMAGE_BYTES = 8 << 20
MAX_PIXELS = 1 << 24
"""Of an image, as it is and once resized: 48 MiB in memory, whatever the file says of itself."""
FORMATS = ("PNG", "JPEG")
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
"""Of 8 bits a channel or fewer: others lose their range on the way to RGB."""
SIGNATURES = (b"\x89PNG", b"\xff\xd8")


class BadImage(ValueError):
    """An image that cannot be answered; the message says what to send instead."""


def decode(value: object) -> bytes:
    """The file in a request: its bytes, or base64 of them, which is how JSON carries it. Raises `BadImage`."""
    data = value if isinstance(value, bytes) else str(value).encode()
    if not data.startswith(SIGNATURES):
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except binascii.Error:
            data = b""
        if not data.startswith(SIGNATURES):
            raise BadImage("it is neither PNG nor JPEG, nor base64 of these: convert it")
    if len(data) > MAX_IMAGE_BYTES:
        raise BadImage(f"it has {len(data)} bytes, more than {MAX_IMAGE_BYTES >> 20} MiB: make it smaller")
    return data


def opened(data: bytes) -> Any:
    """The image, in RGB without its transparency. Its header is judged before its pixels are read. Raises `BadImage`."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image.width, image.height)
        if image.mode not in MODES:
            raise BadImage(f"its pixels are of mode {image.mode}: save it with 8 bits a channel")
        return image.convert("RGB")
    except BadImage:
        raise
    except Exception as error:  # whatever Pillow says of a broken file
        raise BadImage(f"it cannot be read ({' '.join(str(error).split())[:100]}): save it again") from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"it has {width} x {height} pixels, more than {MAX_PIXELS >> 20} Mi: make it smaller")


def pixels(image: Any, settings: Settings) -> Array:
    """Pixel values (float32 [3, height, width]) of an image in RGB: resized, cropped around its centre, scaled and normalised.
    Raises `BadImage` for one so narrow that it would grow beyond bounds."""
    if wanted := settings["resize"]:
        width, height = _resized(image.width, image.height, wanted)
        _check_size(width, height)
        image = image.resize((width, height), resample=settings["resample"])
    if settings["crop"]:
        left, top = (image.width - settings["width"]) // 2, (image.height - settings["height"]) // 2
        image = image.crop((left, top, left + settings["width"], top + settings["height"]))
    scaled = (np.asarray(image).astype(np.float64) * settings["scale"]).astype(np.float32)
    mean, std = (np.array(settings[name], np.float32) for name in ("mean", "std"))
    return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))


def _resized(width: int, height: int, wanted: Sequence[int]) -> tuple[int, int]:
    """Width and height: of `wanted`, which is (height, width), or (length of the shorter edge,)."""
    if len(wanted) == 2:
        return wanted[1], wanted[0]
    longer = int(wanted[0] * max(width, height) / min(width, height))
    return (wanted[0], longer) if width <= height else (longer, wanted[0])


def encode(values: Sequence[object], settings: Settings) -> Array:
    """Pixel values (float32 [images, 3, height, width]) of images as they are sent. Raises `BadImage`."""
    return np.stack([pixels(opened(decode(value)), settings) for value in values])
