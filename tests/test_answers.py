"""Which answers match the one that a page shows."""

import pytest

from tests import answers

ID, OTHER = 32 * "a", 32 * "b"


def is_answer(shown: str, given: str) -> bool:
    pair = answers.parse(shown), answers.parse(given)
    return bool(answers.expected(pair[0], answers.ids(*pair)) == pair[1])


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ('{"label": "dog", "score": 0.6404}', '{"score":0.6398,"label":"dog"}'),
        (
            '{"created": "today", "queue_ms": 1, "precision": "bf16"}',
            '{"created":"now","queue_ms":0.2,"precision":"f32"}',
        ),
        (f'[{{"id": "{ID}"}}, {{"of": "{ID}"}}]', f'[{{"id": "{OTHER}"}}, {{"of": "{OTHER}"}}]'),
        ("tests/dog.jpeg dog 0.6404", "tests/dog.jpeg dog 0.6398\n"),
    ],
)
def test_other_times_ids_and_last_digits_are_the_same_answer(shown: str, given: str) -> None:
    assert is_answer(shown, given)


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ('{"label": "dog"}', '{"label": "cat"}'),
        ('{"label": "dog"}', '{"label": "dog", "more": 1}'),
        ('{"score": 0.64}', '{"score": 0.3}'),
        ('{"queue_ms": 1.5}', '{"queue_ms": null}'),
        ('{"a": [1, 2]}', '{"a": [1]}'),
        (f'{{"id": "{ID}"}}', '{"id": "none"}'),
        (f'[{{"id": "{ID}"}}, {{"of": "{ID}"}}]', f'[{{"id": "{OTHER}"}}, {{"of": "{ID}"}}]'),
        ("dog 0.64", "cat 0.64"),
    ],
)
def test_anything_else_is_another_answer(shown: str, given: str) -> None:
    assert not is_answer(shown, given)
