"""Functions that wait: on an event loop, which keeps running meanwhile, and in a thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import ContextVar

import pytest

from runtime import waiting

Caller = Callable[[Callable[[], object]], object]
_noted: ContextVar[str] = ContextVar("noted", default="nothing")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(params=["on a loop", "in a thread"])
def call(request: pytest.FixtureRequest, threads: ThreadPoolExecutor) -> Caller:
    """Call a function in one of the two ways."""
    if request.param == "in a thread":
        return lambda function: threads.submit(function).result(10)
    return lambda function: asyncio.run(waiting.run(function, threads))


def test_a_function_returns_what_it_returns(call: Caller) -> None:
    assert call(lambda: 5) == 5


def test_a_function_gets_the_result_that_it_waits_for(call: Caller) -> None:
    future: Future[str] = Future()
    threading.Timer(0.01, future.set_result, ["done"]).start()
    assert call(lambda: waiting.wait(future, 10)) == "done"


def test_a_function_gets_the_exception_that_it_waits_for(call: Caller) -> None:
    future: Future[str] = Future()
    threading.Timer(0.01, future.set_exception, [OSError("away")]).start()
    with pytest.raises(OSError, match="away"):
        call(lambda: waiting.wait(future, 10))


def test_waiting_ends_when_its_time_is_over(call: Caller) -> None:
    with pytest.raises(FutureTimeoutError):
        call(lambda: waiting.wait(Future(), 0.01))


def test_an_exception_of_the_function_comes_out(call: Caller) -> None:
    with pytest.raises(ZeroDivisionError):
        call(lambda: 1 // 0)


def test_what_is_noted_in_the_context_stays_in_the_call_across_blocking_and_waiting(call: Caller) -> None:
    future: Future[None] = Future()
    threading.Timer(0.01, future.set_result, [None]).start()
    note = waiting.blocking(lambda: _noted.set("something"))

    def function() -> str:
        note()
        waiting.wait(future, 10)
        return _noted.get()

    assert call(function) == "something"
    assert _noted.get() == "nothing"


def test_many_functions_wait_on_one_loop_in_its_own_thread(threads: ThreadPoolExecutor) -> None:
    waited_in = set[str]()

    async def main() -> list[int]:
        future: Future[int] = Future()

        def function(number: int) -> int:
            waited_in.add(threading.current_thread().name)
            return number + waiting.wait(future)

        calls = [asyncio.create_task(waiting.run(lambda n=number: function(n), threads)) for number in range(100)]  # type: ignore[misc]
        await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
        future.set_result(1000)
        return list(await asyncio.gather(*calls))

    assert asyncio.run(main()) == list(range(1000, 1100))
    assert waited_in == {threading.current_thread().name}


def test_a_loop_goes_on_while_a_function_blocks(threads: ThreadPoolExecutor) -> None:
    async def main() -> str:
        go_on = threading.Event()
        block = waiting.blocking(lambda: go_on.wait(10) and threading.current_thread().name)
        call = asyncio.create_task(waiting.run(block, threads))
        await asyncio.sleep(0)
        go_on.set()
        return str(await call)

    assert asyncio.run(main()).startswith("ThreadPoolExecutor")


def test_a_function_whose_task_is_cancelled_learns_of_it(threads: ThreadPoolExecutor) -> None:
    ended = list[str]()

    def function() -> None:
        try:
            waiting.wait(Future())
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        call = asyncio.create_task(waiting.run(function, threads))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert ended == ["cancelled"]


def test_functions_that_are_gathered_return_all_they_return(call: Caller) -> None:
    assert call(lambda: waiting.gather([lambda n=number: n for number in range(3)])) == [0, 1, 2]  # type: ignore[misc]


def test_of_functions_that_are_gathered_an_exception_comes_out(call: Caller) -> None:
    with pytest.raises(ZeroDivisionError):
        call(lambda: waiting.gather([lambda: 1, lambda: 1 // 0]))


def test_functions_that_are_gathered_on_a_loop_wait_together_in_the_context_of_their_caller(
    threads: ThreadPoolExecutor,
) -> None:
    futures: list[Future[str]] = [Future(), Future()]

    def function(number: int) -> str:
        futures[number].set_result(_noted.get())
        return waiting.wait(futures[1 - number], 10)  # done only if the other one has begun, too

    def both() -> list[str]:
        _noted.set("by the caller")
        return waiting.gather([lambda: function(0), lambda: function(1)])

    assert asyncio.run(waiting.run(both, threads)) == 2 * ["by the caller"]


def test_of_functions_that_are_gathered_all_end_though_one_raises(threads: ThreadPoolExecutor) -> None:
    ended, future = list[str](), Future[None]()

    def waits() -> None:
        waiting.wait(future, 10)
        ended.append("the one that waits")

    def raises() -> None:
        future.set_result(None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(waiting.run(lambda: waiting.gather([waits, raises]), threads))
    assert ended == ["the one that waits"]


def test_functions_that_are_gathered_may_wait_again_and_gather_themselves(threads: ThreadPoolExecutor) -> None:
    block = waiting.blocking(lambda: 1)

    def twice() -> int:
        return block() + sum(waiting.gather([block, block]))

    assert asyncio.run(waiting.run(lambda: waiting.gather([twice, twice]), threads)) == [3, 3]
