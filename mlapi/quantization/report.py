"""The report that compares an INT8 model with its original."""

from collections.abc import Iterator
from dataclasses import dataclass

from mlapi.quantization.comparison import Accuracy, Agreement

_BYTES_OF_MB = 10**6


@dataclass(frozen=True, slots=True)
class Figures:
    """One of the two models: its precision, the size of its network file, and the speed of the network alone."""

    model: str
    precision: str
    bytes: int
    images_per_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """The new model's folder, and how it compares with the original."""

    folder: str
    calibration_images: int
    original: Figures
    quantized: Figures
    agreement: Agreement
    accuracy: Accuracy | None

    def __str__(self) -> str:
        rows = "\n".join(f"| {' | '.join(row)} |" for row in self._rows())
        ready = f"{self.folder} is ready, and the original as it was: MODEL={self.folder} make run"
        return f"{rows}\n\n{self._advice()}{ready}"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        one, two, found = self.original, self.quantized, self.agreement
        yield "", f"{one.model}, {one.precision}", f"{two.model}, {two.precision}"
        yield "---", "---:", "---:"
        yield f"same class, of {found.images} other images", "", _share(found.same_class, found.images)
        clear = found.clear_images
        yield f"same class, of the {clear} of them that are clear", "", _share(found.clear_same_class, clear)
        yield "largest difference of a score", "", f"{found.largest_score_difference:.3f}"
        if self.accuracy:
            images, right = self.accuracy.images, (self.accuracy.original_right, self.accuracy.quantized_right)
            yield f"right, of {images} images with labels", *(_share(count, images) for count in right)
        yield "size of the network, MB", *(f"{each.bytes / _BYTES_OF_MB:.1f}" for each in (one, two))
        yield "images/s, the network alone", *(f"{each.images_per_s:.0f}" for each in (one, two))

    def _advice(self) -> str:
        faster = self.quantized.images_per_s > self.original.images_per_s
        return "" if faster else "It is no faster than the original on this machine: serve the original here.\n"


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.1f} %)" if of else "-"
