"""Matching labels as people type them."""

import pytest

from api.feedback.labels import meant

LABELS = ["Siberian_husky", "crane", "Crane", "crane"]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Siberian_husky", "Siberian_husky"),
        (" siberian HUSKY ", "Siberian_husky"),
        ("Crane", "Crane"),
        ("CRANE", "crane"),
        ("husky", None),
        ("", None),
    ],
)
def test_a_text_means_the_label_that_is_written_so_or_nearly_so(text: str, label: str | None) -> None:
    assert meant(text, LABELS) == label
