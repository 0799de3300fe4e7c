"""Long computations in parts: what they return, and that others run in between."""

import asyncio

from shared.event_loop.parts import in_parts, mapped


async def test_the_parts_are_computed_in_order() -> None:
    assert await in_parts(range(7), list, at_once=3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert await in_parts(range(3), list, at_once=3) == [[0, 1, 2]]
    assert await in_parts([], list) == [[]]
    assert await mapped([1, 2, 3], str, at_once=2) == ["1", "2", "3"]


async def test_the_event_loop_runs_between_two_parts() -> None:
    """Of several computations, an iteration of the event loop computes one part."""
    iteration = 0
    computed: list[int] = []

    async def count() -> None:
        nonlocal iteration
        while True:
            iteration += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(mapped(range(10), lambda _: computed.append(iteration), at_once=1))
    counting.cancel()
    assert len(computed) == 80
    assert max(computed.count(one) for one in set(computed)) == 1
