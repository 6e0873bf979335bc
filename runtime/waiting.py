"""Waits without blocking an event loop: callers on the loop are suspended, callers in threads just wait.

So one synchronous function, such as a Flask view, works in both: a thousand requests that wait on the loop are a
thousand small stacks, not a thousand threads.
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
    """A function called from an event loop, with the thread pool and the context that it uses."""

    def __init__(self, function: Callable[[], object], threads: Executor) -> None:
        super().__init__(function)
        self.threads = threads
        self.context = self.gr_context = copy_context()


async def run(function: Callable[[], T], threads: Executor) -> T:
    """Run a function in the event loop's own thread and return its result; `threads` do its blocking calls."""
    call = _Call(function, threads)
    return cast("T", await _end(call, call.switch()))


async def _end(call: _Call, step: Any) -> object:  # noqa: ANN401 - what it waits for, or what it has returned
    """Run a started call to its end, and return its result."""
    while not call.dead:
        try:
            result = await step
        except BaseException as err:  # noqa: BLE001 - the function handles it
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
    if future.done():  # done while others were waited for
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
    """Return the functions' results, or raise the first one's exception, when all have ended.

    On an event loop, all begin before any is waited for; a task of the loop for each would cost more than most do.
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
    except BaseException as err:  # noqa: BLE001 - the caller raises it
        result.set_exception(err)


async def _end_all(calls: Sequence[_Call]) -> None:
    steps = [call.switch() for call in calls]  # every one to its end, or until it has to wait
    for call, step in zip(calls, steps, strict=True):
        await _end(call, step)


def _set(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)


def blocking(function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a blocking function so that it may be called anywhere: on an event loop, a thread runs it."""

    @wraps(function)
    def call_it(*args: P.args, **kwargs: P.kwargs) -> T:
        call = getcurrent()
        if not isinstance(call, _Call):
            return function(*args, **kwargs)
        # In the caller's context, which is free while it waits, so that log fields bound there stay.
        return wait(call.threads.submit(lambda: call.context.run(function, *args, **kwargs)))

    return call_it
