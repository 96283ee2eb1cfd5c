"""Images that are already in memory: arrays and tensors, as uint8 grey or RGB."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError

_CHANNELS = (1, 3, 4)


def array_images(images: Any) -> tuple[Callable[[int], NDArray[np.uint8]], int]:
    """A reader of single images and their number, from (n, h, w), (n, h, w, c) or NCHW (n, c, h, w).

    Converts an image when it is read, so that a memory-mapped file stays on disk.
    Raises InputError for another shape.
    """
    array = view(images)
    if array.ndim not in (3, 4):
        raise InputError(
            f"An array of images has the shape (n, h, w), (n, h, w, c) or (n, c, h, w), not {array.shape}; "
            "a single image needs a leading axis, and a table of numbers features='table'."
        )
    if array.ndim == 4:
        # Checked here, so that a wrong shape is one error and not one an image.
        _channels_last(array[:1].reshape(array.shape[1:]) if len(array) else np.zeros(array.shape[1:], array.dtype))
    return (lambda index: pixels_from_array(array[index])), len(array)


def pixels_from_array(image: Any) -> NDArray[np.uint8]:
    """One image, (h, w), (h, w, c) or (c, h, w), as uint8 (h, w) or (h, w, 3); alpha is composited over white.

    uint8 and whole numbers in 0..255 are taken as they are, uint16 is scaled from 0..65535, floats from [0, 1].
    Raises InputError for other shapes, types and ranges.
    """
    array = view(image)
    if array.size == 0:
        raise InputError("it has no pixels.")
    if array.ndim == 3:
        array = _channels_last(array)
    elif array.ndim != 2:
        raise InputError(f"an image has the shape (h, w), (h, w, c) or (c, h, w), not {array.shape}.")
    pixels = _to_uint8(array)
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    if pixels.shape[2] == 4:
        colour, alpha = pixels[:, :, :3].astype(np.uint32), pixels[:, :, 3:].astype(np.uint32)
        over_white = (colour * alpha + 255 * (255 - alpha) + 127) // 255
        pixels = over_white.astype(np.uint8)
    return pixels


def pixels_from_float(array: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Floats in [0, 1] as uint8, rounded to nearest; InputError outside that range or with NaN."""
    if not np.isfinite(array).all():
        raise InputError("it holds NaN or infinite pixels.")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise InputError(
            f"pixels given as floats must lie in [0, 1], and these reach from {low:.3g} to {high:.3g}; "
            "undo any normalisation, or give uint8."
        )
    scaled: NDArray[np.floating] = np.rint(array * 255)
    return scaled.astype(np.uint8)


def view(images: Any) -> NDArray[Any]:
    """Anything with `__array__`, as numpy; InputError if it refuses (a tensor on a device or with gradients)."""
    try:
        return np.asarray(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"A {type(images).__name__} cannot be viewed as an array; move it to the CPU, detach it, and try again."
        ) from error


def _channels_last(image: NDArray[Any]) -> NDArray[Any]:
    """(h, w, c) from (h, w, c) or (c, h, w). Where both fit, floats are channels first, as tensors are."""
    first, last = image.shape[0] in _CHANNELS, image.shape[2] in _CHANNELS
    if not first and not last:
        raise InputError(
            f"a colour image has 1, 3 or 4 channels, first or last, which the shape {image.shape} has not."
        )
    if first and (not last or image.dtype.kind == "f"):
        return np.moveaxis(image, 0, 2)
    return image


def _to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind == "f":
        return pixels_from_float(array)
    if array.dtype.kind in "iu":
        if array.min() < 0 or array.max() > 255:
            raise InputError(
                f"whole-number pixels must lie in 0..255, and these reach from {array.min()} to {array.max()}."
            )
        return array.astype(np.uint8)
    raise InputError(f"pixels are numbers, not {array.dtype}.")
