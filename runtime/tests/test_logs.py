"""Log lines as text and as JSON."""

import json
import logging
import threading
from collections.abc import Iterator

import pytest

from runtime import logs

log = logging.getLogger("test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Start without the fields of other tests' requests, and restore pytest's log handlers."""
    logs.start()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_text_puts_the_fields_after_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    log.info("batch of %d", 2, extra={"ms": 3.5})
    assert last_line(capsys).endswith("INFO    test: batch of 2 ms=3.5")


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n", "\v", "\x1b[2J", "\0", "\x7f", "\x85", "\u2028", "\u2029"])
def test_what_others_say_ends_no_line_and_controls_no_terminal(capsys: pytest.CaptureFixture[str], ending: str) -> None:
    logs.configure("INFO", "text")
    log.info("they said: %s", f"é{ending}2026-01-01 INFO forged", extra={"field": f"x{ending}y"})
    written = capsys.readouterr().err
    escaped = repr(ending)[1:-1]
    assert written.endswith(f"they said: é{escaped}2026-01-01 INFO forged field=x{escaped}y\n")
    assert sum(not character.isprintable() for character in written) == 1


def test_the_text_of_an_error_ends_no_line_either(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    try:
        raise ValueError("why\n2026-01-01 INFO forged\x1b[2J")
    except ValueError:
        log.exception("it failed")
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith("ERROR   test: it failed")
    assert others[-1] == "  2026-01-01 INFO forged\\x1b[2J"
    assert all(line.startswith("  ") for line in others)


def test_json_has_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    log.warning("two\nlines", extra={"ms": 3.5})
    line = json.loads(last_line(capsys))
    assert line.pop("time").startswith("20")
    assert line == {"level": "WARNING", "logger": "test", "message": "two\nlines", "ms": 3.5}


def test_a_traceback_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("it failed")
    assert "ValueError: why" in json.loads(last_line(capsys))["exc_info"]


def test_lines_of_a_request_carry_its_fields_and_none_of_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    logs.start(request_id="r1")
    logs.bind(job_id="j1")
    logs.start(request_id="r2")
    log.info("answered")
    assert last_line(capsys).endswith("answered request_id=r2")


def test_threads_do_not_see_each_others_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    logs.start(request_id="r1")
    thread = threading.Thread(target=log.info, args=("elsewhere",))
    thread.start()
    thread.join()
    assert last_line(capsys).endswith("elsewhere")


def test_lines_below_the_level_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING", "text")
    log.info("not now")
    assert capsys.readouterr().err == ""
