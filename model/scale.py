"""Detects a mean and a standard deviation that are not on the scale of pixels, which is 0 to 255."""

from collections.abc import Sequence

_LARGEST = 255
# A standard deviation below this is a factor that pixels are multiplied by, such as 1/255.
_LARGEST_FACTOR = 1 / 64


def meant(mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Return what is wrong with them, and the probable intention, or None."""
    if max(mean) <= 0 and min(mean) < -1:
        return _said("mean is below 0, and it is taken off the pixels", [abs(each) for each in mean], std)
    if max(std) < _LARGEST_FACTOR:
        return _said("std is so small that it may be a factor, such as 1/255", mean, [1 / each for each in std])
    if max(std) < 1:
        return _said("std is below 1, as for values from 0 to 1", _as_pixels(mean), _times_255(std))
    if min(mean) > 0 and max(mean) < 1:
        return _said("mean is below 1, as for values from 0 to 1", _times_255(mean), std)
    if max(mean) > _LARGEST:
        by_255 = [each / _LARGEST for each in mean], [each / _LARGEST for each in std]
        are_plausible = max(by_255[0]) <= _LARGEST and meant(*by_255) is None
        return _said("mean is above 255", *by_255) if are_plausible else "mean is above 255, the largest of a pixel"
    return None


def _as_pixels(mean: Sequence[float]) -> Sequence[float]:
    return _times_255(mean) if max(abs(each) for each in mean) <= 1 else mean


def _times_255(numbers: Sequence[float]) -> list[float]:
    return [_LARGEST * each for each in numbers]


def _said(wrong: str, mean: Sequence[float], std: Sequence[float]) -> str:
    numbers = (f"[{', '.join(f'{each:.6g}' for each in numbers)}]" for numbers in (mean, std))
    return "{}, and pixels are from 0 to 255; probably meant: mean = {}, std = {}".format(wrong, *numbers)
