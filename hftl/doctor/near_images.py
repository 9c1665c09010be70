"""Near-duplicate images: a perceptual hash finds them, the grey pixels verify them.

The hash is the usual DCT one (Zauner 2010, Implementation and benchmarking of perceptual image hash functions): which
of the low frequencies lie above their median. Computed on all thumbs at once with scipy: imagehash hashes one image at
a time and has no index, and the thumbs are needed here to verify.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from scipy.fft import dctn

from hftl.doctor.neighbours import group_near


_SIDE = 8  # low frequencies per axis
# Bits in which the hashes of near duplicates differ at most. Six changed bits leave two of the eight bytes as they
# were, so each of the 28 pairs of bytes is a band: none within the six is missed, and buckets are small.
_MAX_BITS = 6
# Correlation of the grey thumbs from which two images are nearly the same, and the stricter one for images smaller
# than a thumb, which resemble each other more easily. Measured, see docs/doctor.md.
NEAR, NEAR_SMALL = 0.97, 0.99
_FLAT = 2.0  # standard deviation of grey below which an image has no structure to compare
_CHUNK = 8192


def near_image_groups(thumbs: Sequence[np.ndarray], small: np.ndarray) -> np.ndarray:
    """Return a group number per thumb [n] of grey uint8 [side, side]; images of one group look the same.

    `small` [n] tells the images with a side shorter than that of a thumb. Flat images, which have no structure, are in
    no group.
    """
    if len(thumbs) < 2:
        return np.arange(len(thumbs))
    pixels = np.stack(thumbs)
    bits = perceptual_hash(pixels)
    flat = pixels.reshape(len(pixels), -1).std(axis=1) < _FLAT

    def verify(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        near = ~flat[left] & ~flat[right] & ((bits[left] != bits[right]).sum(axis=1) <= _MAX_BITS)
        limit = np.where(small[left] | small[right], NEAR_SMALL, NEAR)
        near[near] = correlation(pixels, left[near], right[near]) >= limit[near]
        return near

    return group_near(_bands(bits), len(pixels), verify)


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """Return the hash bits [n, 64] of grey images [n, side, side]."""
    bits = np.empty((len(pixels), _SIDE * _SIDE), dtype=bool)
    for start in range(0, len(pixels), _CHUNK):
        part = dctn(pixels[start : start + _CHUNK].astype(np.float32), axes=(1, 2), norm="ortho")
        low = part[:, :_SIDE, :_SIDE].reshape(len(part), -1)
        bits[start : start + _CHUNK] = low > np.median(low[:, 1:], axis=1, keepdims=True)  # without the mean grey
    return bits


def _bands(bits: np.ndarray) -> Iterator[np.ndarray]:
    packed = np.packbits(bits, axis=1).astype(np.uint16)  # [n, 8]
    for first, second in combinations(range(packed.shape[1]), 2):
        yield packed[:, first] * np.uint16(256) + packed[:, second]


def correlation(pixels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation [m] of the grey values of the pairs of images (left[i], right[i])."""
    result = np.empty(len(left))
    for start in range(0, len(left), _CHUNK):
        a, b = (_standardised(pixels[side[start : start + _CHUNK]]) for side in (left, right))
        result[start : start + _CHUNK] = (a * b).mean(axis=1)
    return result


def _standardised(pixels: np.ndarray) -> np.ndarray:
    values = pixels.reshape(len(pixels), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(values.std(axis=1, keepdims=True), 1e-6)
