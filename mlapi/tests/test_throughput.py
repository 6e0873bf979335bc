"""The plans that `mlapi tune` tries, and their measurement."""

import pytest

from mlapi.tuning.throughput import Plan, plans, summary


@pytest.mark.parametrize(
    ("cores", "shapes"),
    [
        (1, [(1, 1)]),
        (2, [(2, 1), (1, 2)]),
        (6, [(6, 1), (3, 2), (1, 4), (1, 6)]),
        (8, [(8, 1), (4, 2), (2, 4), (1, 8)]),
    ],
)
def test_every_width_of_worker_is_tried_with_every_batch_size(cores: int, shapes: list[tuple[int, int]]) -> None:
    expected = [Plan(*shape, size) for shape in shapes for size in (1, 2, 4, 8, 16)]
    assert plans(cores) == expected


def test_the_summary_is_the_median_of_each_plans_tries() -> None:
    one, two = Plan(2, 1, 4), Plan(1, 2, 4)
    speeds = summary([(one, 100), (two, 80), (one, 10), (two, 90), (one, 101), (two, 70)])
    assert [(speed.plan, speed.images_per_s, round(speed.batch_ms)) for speed in speeds] == [
        (one, 100, 80),
        (two, 80, 50),
    ]
