"""The `Priority` header, and the lane of a request's jobs."""

import pytest

from api.v1.priority import lane


@pytest.mark.parametrize(
    ("header", "urgency"),
    [
        ("u=0", 0),
        ("u=4", 4),
        ("u=5", 5),
        ("u=7", 7),
        ("u=5, i", 5),
        ("i,u=5", 5),
        ("i=?0 \t,\tu=5", 5),
        ("u=1, u=6", 6),
        ("u=6, u=1", 1),
        ("u=05", 5),
        ("u=6;from=proxy; hops=2", 6),
        (" u=6 ", 6),
        ('note="u=1, \\"now\\"", u=6', 6),
        ("x=(a 1.5 :YQ==:;b), y=(), u=6", 6),
        ("later=*/a:b, u=6", 6),
    ],
)
def test_from_an_urgency_of_5_on_work_is_bulk(header: str, urgency: int) -> None:
    expected = "bulk" if urgency >= 5 else "interactive"
    assert (lane([header], waits=True), lane([header], waits=False)) == (expected, expected)


@pytest.mark.parametrize("headers", [["u=6", "i"], ["i", "u=6"]])
def test_several_headers_are_one(headers: list[str]) -> None:
    assert lane(headers, waits=True) == "bulk"


@pytest.mark.parametrize(
    "header",
    [
        *("", "i", "i=?1", "urgency=6"),  # no urgency
        *("u", "u=8", "u=-1", "u=6.0", 'u="6"', "u=six", "u=?1", "u=(6)", "u=6, u=9"),  # not an urgency
        *("U=6", "u= 6", "u =6", "u=6,", ",u=6", "u=6; ", "u=6 i", "u=6, i=", 'u=6, x="', "u=6, x=(a", "u=6, ä", "6"),
        *("u=" + "6" * 16, "u=6, x=" + "(" * 9),
    ],
)
def test_without_an_urgency_that_can_be_understood_who_waits_is_served_first(header: str) -> None:
    assert (lane([header], waits=True), lane([header], waits=False)) == ("interactive", "bulk")
