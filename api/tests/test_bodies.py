"""Bodies that arrive slowly, break off, or do not fit into memory."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from api.http.heads import Head
from api.server import bodies
from api.server.bodies import MAX_CONNECTIONS, Bodies
from runtime.errors import BadBody, BadForwarding, KeyRequired, QueueFull, ServiceError, TooManyBytes, TooSlow
from testing.rsgi_client import FakeHeaders, FakeProtocol, FakeScope

MAX_BODY_BYTES = 1000
SMALL_BYTES = 10
T = TypeVar("T")


@pytest.fixture
def received() -> Bodies:
    return Bodies(max_bytes=SMALL_BYTES * MAX_CONNECTIONS, timeout_s=60)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_LINGER_S", 0)


def run(steps: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await asyncio.wait_for(steps(), 60)

    return asyncio.run(main())


def a_request(length: int | None, address: str = "192.0.2.1", *headers: tuple[str, str]) -> Head:
    size = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
    return Head.read(FakeScope("POST", "/predict", FakeHeaders(size, *headers), client=f"{address}:40000"))


class Sent:
    """A body of which `size` bytes have been sent, and that does not end by itself."""

    def __init__(self, to: Bodies, size: int, address: str = "192.0.2.1", *headers: tuple[str, str]) -> None:
        self.protocol = FakeProtocol([bytes(size)], slow=True)
        self.task = asyncio.create_task(to.receive(a_request(2 * size, address, *headers), self.protocol, 2 * size))

    async def outcome(self) -> ServiceError | None:
        """Return what the body is refused with; None where it is not."""
        self.protocol.hang_up()
        try:
            await self.task
        except BadBody:
            return None
        except ServiceError as err:
            return err
        raise AssertionError("half of it is not all")


async def come(*sent: Sent) -> None:
    """Return when of all these uploads has come what was sent."""
    for _ in range(3 * len(sent)):
        await asyncio.sleep(0)


@pytest.mark.parametrize("length", [100, None])
@pytest.mark.parametrize("pieces", [[b"a" * 100], [b"a" * 30, b"a" * 70]])
def test_a_body_is_received_whole(received: Bodies, length: int | None, pieces: list[bytes]) -> None:
    body = run(lambda: received.receive(a_request(length), FakeProtocol(pieces), MAX_BODY_BYTES))
    assert body == b"a" * 100


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_client_that_hangs_up_has_not_sent_a_shorter_body(received: Bodies, size: int) -> None:
    async def steps() -> None:
        protocol = FakeProtocol([bytes(size)], slow=True)
        protocol.hang_up()
        await received.receive(a_request(size + 1), protocol, MAX_BODY_BYTES)

    with pytest.raises(BadBody):
        run(steps)


@pytest.mark.parametrize("pieces", [[b"", b""], [b"a" * 100, b"", b""]])
def test_chunks_that_break_off_are_not_a_shorter_body(received: Bodies, pieces: list[bytes]) -> None:
    with pytest.raises(BadBody):
        run(lambda: received.receive(a_request(None), FakeProtocol(pieces[:-1]), MAX_BODY_BYTES))


@pytest.mark.parametrize("length", [5, 500, None])
def test_one_that_takes_too_long_is_ended(length: int | None) -> None:
    hasty = Bodies(max_bytes=SMALL_BYTES * MAX_CONNECTIONS, timeout_s=0.01)
    with pytest.raises(TooSlow):
        run(lambda: hasty.receive(a_request(length), FakeProtocol([b"a"], slow=True), MAX_BODY_BYTES))


@pytest.mark.parametrize("length", [MAX_BODY_BYTES + 1, None])
def test_one_that_is_too_large_is_refused_even_if_it_never_ends(received: Bodies, length: int | None) -> None:
    protocol = FakeProtocol([bytes(MAX_BODY_BYTES), b"a"], slow=True)
    with pytest.raises(TooManyBytes):
        run(lambda: received.receive(a_request(length), protocol, MAX_BODY_BYTES))


@pytest.mark.parametrize("length", [SMALL_BYTES, MAX_BODY_BYTES, MAX_BODY_BYTES + 1, None])
def test_one_that_is_refused_anyway_is_thrown_away(received: Bodies, length: int | None) -> None:
    async def steps() -> None:
        protocol = FakeProtocol([bytes(MAX_BODY_BYTES)], slow=True)
        await received.receive(a_request(length), protocol, MAX_BODY_BYTES, KeyRequired())

    with pytest.raises(KeyRequired):
        run(steps)


def test_what_is_only_announced_keeps_nobody_out(received: Bodies) -> None:
    async def steps() -> bytes:
        idle = [
            asyncio.create_task(received.receive(a_request(99_999), FakeProtocol(slow=True), 100_000))
            for _ in range(500)
        ]
        await asyncio.sleep(0)
        body = await received.receive(a_request(80_000), FakeProtocol([bytes(80_000)]), 100_000)
        assert not any(each.done() for each in idle)
        return body

    assert len(run(steps)) == 80_000


def test_where_too_much_has_come_the_latest_of_who_sends_the_most_makes_room(received: Bodies) -> None:
    async def steps() -> list[ServiceError | None]:
        other = Sent(received, 20_000, "198.51.100.7")
        most = [Sent(received, 25_000) for _ in range(3)]
        await come(other, *most)
        last = Sent(received, 20_000, "198.51.100.8")
        await come(last)
        return [await each.outcome() for each in (other, last, *most)]

    other, last, first, second, latest = run(steps)
    assert (other, last, first, second) == (None, None, None, None)
    assert isinstance(latest, QueueFull)
    assert latest.retry_after_s


def test_who_sends_too_much_makes_room_for_itself(received: Bodies) -> None:
    async def steps() -> list[ServiceError | None]:
        other = Sent(received, 30_000, "198.51.100.7")
        most = [Sent(received, 30_000) for _ in range(30)]
        await come(other, *most)
        return [await each.outcome() for each in (other, *most)]

    other, *most = run(steps)
    assert other is None
    assert [type(err) for err in most] == [type(None)] * 2 + [QueueFull] * 28


def test_what_has_come_of_a_refused_body_is_not_kept(received: Bodies) -> None:
    async def steps() -> bytes:
        refused = [Sent(received, 60_000, address) for address in ("192.0.2.1", "198.51.100.7")]
        await come(*refused)
        assert [type(await each.outcome()) for each in refused].count(QueueFull) == 1
        return await received.receive(a_request(100_000), FakeProtocol([bytes(100_000)]), 100_000)

    assert len(run(steps)) == 100_000


def test_small_bodies_are_never_in_the_way(received: Bodies) -> None:
    async def steps() -> bytes:
        large = Sent(received, 99_999, "198.51.100.7")
        await come(large)
        protocol = FakeProtocol([bytes(SMALL_BYTES)])
        body = await received.receive(a_request(SMALL_BYTES), protocol, MAX_BODY_BYTES)
        assert isinstance(await large.outcome(), QueueFull)
        return body

    assert len(run(steps)) == SMALL_BYTES


@pytest.mark.parametrize(
    ("proxies", "of_one", "of_another"),
    [
        (1, "evil, 203.0.113.5", "203.0.113.6"),
        (1, '"evil, 203.0.113.5', '"evil, 203.0.113.6'),
        (2, "203.0.113.5, 10.0.0.1", "evil, 203.0.113.6, 10.0.0.1"),
        (1, "2001:db8::1", "2001:db8:0:1::1"),
    ],
)
def test_clients_behind_a_proxy_are_told_apart(proxies: int, of_one: str, of_another: str) -> None:
    async def steps() -> list[ServiceError | None]:
        to = Bodies(max_bytes=100_000, timeout_s=60, trusted_proxies=proxies)
        most = Sent(to, 60_000, "10.0.0.9", ("x-forwarded-for", of_one))
        await come(most)
        other = Sent(to, 50_000, "10.0.0.9", ("x-forwarded-for", of_another))
        await come(other)
        return [await most.outcome(), await other.outcome()]

    most, other = run(steps)
    assert isinstance(most, QueueFull)
    assert other is None


@pytest.mark.parametrize(
    ("proxies", "forwarded_for"), [(1, "203.0.113.5, unknown"), (2, "x, 203.0.113.5"), (1, "\x80"), (3, "\x80")]
)
def test_a_body_whose_proxy_does_not_say_the_clients_address_is_not_kept(proxies: int, forwarded_for: str) -> None:
    async def steps() -> ServiceError | None:
        to = Bodies(max_bytes=100_000, timeout_s=60, trusted_proxies=proxies)
        return await Sent(to, 60_000, "10.0.0.9", ("x-forwarded-for", forwarded_for)).outcome()

    assert isinstance(run(steps), BadForwarding)


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    async def steps() -> list[ServiceError | None]:
        to = Bodies(max_bytes=100_000, timeout_s=60)
        other = Sent(to, 40_000, "192.0.2.1")
        most = [Sent(to, 30_000, f"[2001:db8::{number}]") for number in range(3)]
        await come(other, *most)
        return [await each.outcome() for each in (other, *most)]

    assert [type(err) for err in run(steps)] == [type(None), type(None), type(None), QueueFull]


def test_in_a_hurry_all_that_is_under_way_is_ended(received: Bodies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_HURRY_S", 0)

    async def steps() -> ServiceError | None:
        sent = Sent(received, 500)
        await come(sent)
        received.hurry()
        await asyncio.wait([sent.task])
        return await sent.outcome()

    assert isinstance(run(steps), TooSlow)
