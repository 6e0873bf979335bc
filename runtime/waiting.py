"""Waits without holding an event loop: what the loop calls is suspended meanwhile, what a thread calls just waits.

So one synchronous function, such as a view of Flask, serves in both: a thousand that wait on the loop are a thousand
small stacks, not a thousand threads.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar, cast

from greenlet import getcurrent, greenlet

P = ParamSpec("P")
T = TypeVar("T")


class _Call(greenlet):
    """A function that an event loop has called, and the threads and the context that it works with."""

    def __init__(self, function: Callable[[], object], threads: Executor) -> None:
        super().__init__(function)
        self.threads = threads
        self.context = self.gr_context = copy_context()


async def run(function: Callable[[], T], threads: Executor) -> T:
    """Return what a function returns, called in the event loop's own thread; what it has to block for, `threads` do."""
    call = _Call(function, threads)
    return cast("T", await _end(call, call.switch()))


async def _end(call: _Call, step: Any) -> object:  # noqa: ANN401 - what it waits for, or what it has returned
    """Have a call that has begun go on to its end, and return what it returns."""
    while not call.dead:
        try:
            result = await step
        except BaseException as err:  # noqa: BLE001 - the function deals with it
            step = call.throw(err)
        else:
            step = call.switch(result)
    return step


def wait(future: "Future[T]", timeout_s: float | None = None) -> T:
    """Return a future's result, or raise its exception, or `concurrent.futures.TimeoutError`."""
    call = getcurrent()
    if isinstance(call, _Call) and call.parent and not future.done():
        call.parent.switch(_done(future, timeout_s))
        timeout_s = 0
    return future.result(timeout_s)


async def _done(future: "Future[Any]", timeout_s: float | None) -> None:
    """Return when a future is done, or the time is over."""
    if future.done():  # while others were waited for
        return
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    timer = None if timeout_s is None else loop.call_later(timeout_s, _set, over)
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(_set, over))
    try:
        await over
    finally:
        if timer:
            timer.cancel()


def gather(functions: Sequence[Callable[[], T]]) -> list[T]:
    """Return what the functions return, or raise what the first of them raises, when all have ended.

    On an event loop, all have begun before one is waited for: a task of the loop for each would cost more than most do.
    """
    here = getcurrent()
    if not (isinstance(here, _Call) and here.parent):
        return [function() for function in functions]
    results: list[Future[T]] = [Future() for _ in functions]
    calls = [_Call(partial(_settle, *each), here.threads) for each in zip(results, functions, strict=True)]
    for call in calls:
        call.parent = here.parent  # the event loop
    here.parent.switch(_end_all(calls))
    return [result.result() for result in results]


def _settle(result: "Future[T]", function: Callable[[], T]) -> None:
    try:
        result.set_result(function())
    except BaseException as err:  # noqa: BLE001 - whoever has called raises it
        result.set_exception(err)


async def _end_all(calls: Sequence[_Call]) -> None:
    steps = [call.switch() for call in calls]  # each to its end, or until it has to wait
    for call, step in zip(calls, steps, strict=True):
        await _end(call, step)


def _set(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)


def blocking(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that blocks as one that may be called anywhere: the event loop has a thread call it."""

    @wraps(function)
    def call_it(*args: P.args, **kwargs: P.kwargs) -> T:
        call = getcurrent()
        if not isinstance(call, _Call):
            return function(*args, **kwargs)
        # In the caller's context, which is free while it waits, so that what is noted there for the log stays.
        return wait(call.threads.submit(lambda: call.context.run(function, *args, **kwargs)))

    return call_it
