"""The agreement of the cheaper decoders' answers with the reference's."""

import io

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.agreement import Agreement, compare, decode_ms, main
from benchmarks.variations import vary


def test_scores_agree_with_themselves() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.30, 0.32, 0.38]])
    assert compare(scores, scores) == Agreement(same=2, count=2, clear_same=1, clear=1, largest=0, mean=0)


def test_what_is_compared_is_the_reference_class_and_its_score() -> None:
    reference = np.array([[0.7, 0.2, 0.1], [0.30, 0.29, 0.41], [0.50, 0.45, 0.05]])
    other = np.array([[0.3, 0.6, 0.1], [0.30, 0.29, 0.41], [0.48, 0.52, 0.00]])
    found = compare(reference, other)
    assert (found.same, found.count, found.clear_same, found.clear) == (1, 3, 1, 2)
    assert (found.largest, found.mean) == pytest.approx((0.4, 0.14))


def test_variations_are_different_jpegs_of_the_wanted_size_and_the_same_each_time() -> None:
    files = list(vary(None, 6, (300, 500)))
    assert len(set(files)) == 6
    assert files == list(vary(None, 6, (300, 500)))
    for file in files:
        image = Image.open(io.BytesIO(file))
        assert image.format == "JPEG"
        assert 300 <= max(image.size) <= 500


def test_ways_to_decode_are_timed() -> None:
    times = decode_ms(
        [lambda _: np.zeros(3, np.uint8), lambda _: np.asarray(list(range(256)) * 99, np.uint8)], [b""] * 9
    )
    assert 0 <= times[0] < times[1]


def test_the_command_prints_a_table_that_begins_with_the_reference() -> None:
    answer = CliRunner().invoke(main, ["--count", "2", "--sides", "700", "800"])
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert lines[2].startswith("| reference | f32 |")
    assert "| 2 of 2 |" in lines[2]
    assert lines[2].endswith("| 0.000 | 0.0000 |")
    assert sum("the default" in line for line in lines) == 2
