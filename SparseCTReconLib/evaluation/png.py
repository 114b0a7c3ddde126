"""Grey and coloured pictures of slices as PNG and data URIs, with numpy and zlib alone."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

_LOW, _HIGH = (0x2B, 0x8C, 0xD8), (0xE0, 0x6C, 0x1F)


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of `pixels`: uint8, (rows, columns) for grey or (rows, columns, 3) for RGB."""
    pixels = np.ascontiguousarray(pixels, dtype=np.uint8)
    rows, columns = pixels.shape[:2]
    lines = np.zeros((rows, 1 + pixels[0].size), np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = pixels.reshape(rows, -1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def data_uri(pixels: np.ndarray) -> str:
    """`pixels` as a PNG within a URI."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def grey(hu: np.ndarray, width: float, level: float) -> np.ndarray:
    """HU through a window, uint8."""
    return np.round(np.clip((hu - level) / width + 0.5, 0, 1) * 255).astype(np.uint8)


def diverging(difference: np.ndarray, limit: float) -> np.ndarray:
    """Differences from `-limit` (blue) over 0 (black) to `limit` (orange), brightest at both ends; uint8 RGB."""
    share = np.clip(difference / limit, -1, 1)[..., None]
    ends = np.where(share < 0, np.array(_LOW, np.float32), np.array(_HIGH, np.float32))
    amount = np.abs(share)
    # Up to two thirds from black to the colour, from there on to white: bright ends are seen on any screen.
    colour = np.where(amount < 2 / 3, ends * amount * 1.5, ends + (255 - ends) * (amount - 2 / 3) * 1.8)
    return np.round(colour).astype(np.uint8)


def square_pixels(image: np.ndarray, spacing_rows: float, spacing_columns: float, most: int = 320) -> np.ndarray:
    """`image` (rows, columns) resampled linearly to square pixels, its longer side `most` pixels."""
    from scipy.ndimage import zoom

    extent = np.array([image.shape[0] * spacing_rows, image.shape[1] * spacing_columns])
    target = np.maximum(1, np.round(extent / extent.max() * most))
    return zoom(image, target / image.shape, order=1, mode="nearest", grid_mode=True)
