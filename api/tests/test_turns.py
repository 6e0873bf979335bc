"""Turns, taken in an event loop and given back by threads."""

import asyncio
import threading

from api.turns import Turns


def test_beyond_the_number_one_waits_until_a_thread_gives_a_turn_back() -> None:
    async def steps() -> list[str]:
        turns, order = Turns(asyncio.get_running_loop(), 2), list[str]()

        async def take(name: str) -> None:
            await turns.take()
            order.append(name)

        first, _ = await turns.take(), await turns.take()
        waiting = [asyncio.create_task(take(name)) for name in ("third", "fourth")]
        await asyncio.sleep(0)
        assert not order
        threading.Thread(target=first.end).start()
        await asyncio.wait_for(waiting[0], 10)
        first.end()  # which it has already
        await asyncio.sleep(0)
        waiting[1].cancel()
        return order

    assert asyncio.run(steps()) == ["third"]
