"""Images of a source's model: how its `preprocessor_config.json` prepares them, as settings that serving understands."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from optimodel.repository import Image

from ..errors import Failure

FILE = "preprocessor_config.json"
MAX_DIFFERENCE = 1e-5
"""Of a pixel value, between what transformers' processor makes of the probes and what is served."""
RESAMPLES = range(6)
"""Filters of Pillow."""


def load_processor(source: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by which images become what the model of this config reads, in the form of `model.json`; checked against
    transformers' own processor on the probes. Raises `Failure`."""
    processor = _transformers(source)
    try:
        image = _image(processor)
        _check(image, config)
    except (TypeError, ValueError, KeyError, AttributeError, msgspec.ValidationError) as error:
        raise _unsupported(str(error)) from error
    settings: dict[str, Any] = msgspec.to_builtins(image)
    _compare(processor, settings)
    return settings


def _transformers(source: Path) -> Any:
    from transformers import AutoImageProcessor
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        return AutoImageProcessor.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a document of the source makes transformers say
        why = f"is not there{'' if not (source / FILE).exists() else ' in a form that transformers reads'}"
        message = f"{FILE} {why}. Add the one that the model was trained with (image_processor.save_pretrained)."
        raise Failure("ProcessorMissing", message) from error


def _image(processor: Any) -> Image:
    """The processor's steps. Raises what reading an odd document raises."""
    if processor.do_pad:
        raise ValueError("it pads images")
    size, crop = dict(processor.size or {}), bool(processor.do_center_crop)
    exact = bool(size.get("height") and processor.do_resize)
    if not exact and not crop:
        raise ValueError("it leaves images of different sizes")
    if size.get("longest_edge"):
        raise ValueError("it bounds the longest edge")
    resize = (size["height"], size["width"]) if exact else (size["shortest_edge"],) if processor.do_resize else ()
    final = processor.crop_size if crop else size
    found = {
        "height": final["height"],
        "width": final["width"],
        "scale": float(processor.rescale_factor) if processor.do_rescale else 1.0,
        "mean": _channels(processor.image_mean) if processor.do_normalize else (0.0,) * 3,
        "std": _channels(processor.image_std) if processor.do_normalize else (1.0,) * 3,
        "resize": resize,
        "resample": int(processor.resample),
        "crop": crop,
    }
    return msgspec.convert(found, Image)


def _channels(values: Any) -> tuple[float, ...]:
    return (float(values),) * 3 if isinstance(values, (int, float)) else tuple(map(float, values))


def _check(image: Image, config: Mapping[str, Any]) -> None:
    """Whether images get the size that the model reads. Raises `Failure` and `ValueError`."""
    if image.resample not in RESAMPLES or not all(image.std) or not all(size > 0 for size in image.resize):
        raise ValueError("its size, its filter or its deviation is not a possible one")
    wanted = config.get("image_size", 224)
    size = tuple(wanted) if isinstance(wanted, (list, tuple)) else (wanted, wanted)
    if (image.height, image.width) != size or config.get("num_channels", 3) != 3:
        raise Failure(
            "ProcessorMismatch",
            f"{FILE} makes images of 3 x {image.height} x {image.width}; config.json says {config.get('num_channels', 3)} x "
            f"{' x '.join(map(str, size))}. Put the processor beside the model that it was made for.",
        )


def _compare(processor: Any, settings: Mapping[str, Any]) -> None:
    """Whether what is served gives the pixel values of transformers' processor."""
    import numpy as np

    from optimodel.backends import pixels

    images = [pixels.opened(pixels.decode(probe)) for probe in probes()]
    try:
        wanted = np.stack(processor(images, return_tensors="np")["pixel_values"])
        found = np.stack([pixels.pixels(image, settings) for image in images])
        difference = float(np.abs(wanted - found).max()) if wanted.shape == found.shape else float("inf")
    except Exception as error:
        raise _unsupported(str(error)) from error
    if not difference <= MAX_DIFFERENCE:
        raise _unsupported(f"its pixel values differ from ours by {difference:.2g}")


def _unsupported(why: str) -> Failure:
    return Failure(
        "ProcessorUnsupported",
        f"{FILE} asks for what is not served: {' '.join(why.split())[:200]}. Supported: resize, centre crop, rescale and "
        "normalise, in this order, of images in RGB.",
    )


def text(data: bytes) -> str:
    """An image's file as the text that stands for it in rows and requests: base64."""
    return base64.b64encode(data).decode()


def png(values: Any) -> bytes:
    """The file of an image given as an array (height, width[, 3]) of bytes."""
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray(values).save(out, "PNG")
    return out.getvalue()


SIZES = ((8, 8), (64, 48), (28, 28), (15, 90), (1, 1), (33, 47), (70, 20), (9, 9))
"""Heights and widths of the probes; the first is small, since a status remembers it."""


@cache
def probes() -> Sequence[str]:
    """Images of different sizes and brightness, the second of noise: for batch invariance, golden answers, and to compare
    processors."""
    import numpy as np

    found = []
    for number, (height, width) in enumerate(SIZES):
        down, across, channel = np.ogrid[:height, :width, :3]
        ramp = (7 * down + 5 * across + 60 * channel + 30 * number) % 256 // (1 + number % 4)
        noise = np.random.default_rng(7).integers(0, 256, (height, width, 3))
        found.append(text(png((noise if number == 1 else ramp).astype(np.uint8))))
    return tuple(found)
