"""Server-sent events."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from api.http.wsgi import Answer
from api.pages import events
from api.pages.events import Feed, event
from testing.rsgi_client import FakeProtocol

T = TypeVar("T")
FIRST: Answer = (200, [("Content-Type", "text/event-stream")], b"first")


def run(steps: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await asyncio.wait_for(steps(), 60)

    return asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_each_line_of_an_event_is_data() -> None:
    assert event("<p>\n\n  one\ndata: two", 5) == b"retry: 5000\ndata: <p>\ndata:   one\ndata: data: two\n\n"


def test_who_listens_gets_the_answer_and_then_events_until_it_hangs_up() -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(threading.get_ident())
        return b"next"

    async def steps() -> FakeProtocol:
        protocol = FakeProtocol()
        serving = asyncio.create_task(Feed(make, 0.01).serve(protocol, FIRST))
        await until(lambda: protocol.stream and len(protocol.stream.pieces) > 3)
        protocol.hang_up()
        await serving
        return protocol

    protocol = run(steps)
    assert protocol.answer
    assert protocol.stream
    assert (protocol.answer.status, protocol.answer.headers) == (200, {"Content-Type": "text/event-stream"})
    assert protocol.stream.pieces[:3] == [b"first", b"next", b"next"]
    assert threading.get_ident() not in made  # the event loop must not be blocked


def test_an_event_is_made_once_for_all_who_listen() -> None:
    made: list[bytes] = []

    def make() -> bytes:
        made.append(b"%d" % len(made))
        return made[-1]

    async def steps() -> list[FakeProtocol]:
        feed, protocols = Feed(make, 0.2), [FakeProtocol() for _ in range(20)]
        serving = [asyncio.create_task(feed.serve(protocol, FIRST)) for protocol in protocols]
        await until(lambda: all(protocol.stream and len(protocol.stream.pieces) > 1 for protocol in protocols))
        feed.stop()
        await asyncio.gather(*serving)
        return protocols

    heard = [protocol.stream.pieces[1:] for protocol in run(steps) if protocol.stream]
    assert len(made) < sum(map(len, heard))


def test_a_service_that_stops_lets_nobody_listen_on() -> None:
    async def steps() -> tuple[FakeProtocol, FakeProtocol]:
        feed, before, after = Feed(lambda: b"next", 60), FakeProtocol(), FakeProtocol()
        serving = asyncio.create_task(feed.serve(before, FIRST))
        await until(lambda: before.stream)
        feed.stop()
        await serving
        await feed.serve(after, FIRST)
        return before, after

    before, after = run(steps)
    assert before.stream
    assert before.stream.pieces == [b"first"]
    assert after.answer
    assert (after.stream, after.answer.body) == (None, b"first")


def test_one_too_many_gets_one_event_and_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MAX_LISTENERS", 1)

    async def steps() -> FakeProtocol:
        feed, first, second = Feed(lambda: b"next", 60), FakeProtocol(), FakeProtocol()
        serving = asyncio.create_task(feed.serve(first, FIRST))
        await until(lambda: first.stream)
        await feed.serve(second, FIRST)
        first.hang_up()
        await serving
        return second

    second = run(steps)
    assert second.answer
    assert second.answer.body == b"first"


def test_who_listens_for_long_is_to_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MAX_EVENTS", 3)

    async def steps() -> FakeProtocol:
        protocol = FakeProtocol()
        await Feed(lambda: b"next", 0.01).serve(protocol, FIRST)
        return protocol

    stream = run(steps).stream
    assert stream
    assert stream.pieces == [b"first", b"next", b"next", b"next"]
