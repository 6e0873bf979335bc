"""The names of ImageNet's thousand classes, as Keras spells them, in the order of both networks' outputs."""

from pathlib import Path


def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 names. Two occur twice, for different classes: `crane`, `maillot`."""
    return tuple(Path(__file__).with_name("imagenet_labels.txt").read_text(encoding="utf-8").split())
