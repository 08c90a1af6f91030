"""An event loop in a thread of its own, where calls are made, and the calls that are in flight there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from explainers.llm.types import EndpointError

T = TypeVar("T")

#: Seconds between looks at whether the main thread was interrupted.
_POLL = 0.5


class LoopThread:
    """Runs coroutines for other threads, which wait for them. Starts with the first; blocking work has its own threads.

    Records have threads of their own, so that an answer does not wait to be kept behind look-ups for calls to come.

    Args:
        workers: Threads for blocking work.
    """

    def __init__(self, workers: int) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="llm-accounts")
        self._records = ThreadPoolExecutor(workers, thread_name_prefix="llm-records")
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether it has started and not ended."""
        return self._loop is not None and not self._closed

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Waits for a coroutine. Ctrl-C ends the wait and cancels it.

        Raises:
            EndpointError: It was closed before, or meanwhile.
        """
        with self._lock:
            if self._closed:
                coroutine.close()
                raise closed()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            while True:
                try:
                    return future.result(_POLL)
                except TimeoutError:
                    if future.done():
                        return future.result()
        except CancelledError:
            raise closed() from None
        except BaseException:
            future.cancel()
            raise

    async def off(self, function: Callable[..., T], *arguments: Any) -> T:
        """Does blocking work in another thread. It ends even if nobody waits for it any more."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def record(self, function: Callable[..., T], *arguments: Any) -> T:
        """As `off`, ahead of all that was given to that."""
        return await asyncio.get_running_loop().run_in_executor(self._records, function, *arguments)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a last coroutine, then ends; nothing is taken on any more. Closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            future = asyncio.run_coroutine_threadsafe(last(), loop)
            try:
                future.result()
            finally:
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
        self._pool.shutdown(wait=True)
        self._records.shutdown(wait=True)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="llm-client", daemon=True)
            self._thread.start()
        return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def closed() -> EndpointError:
    """The error of whoever asks a client that is closed, or is being closed."""
    return EndpointError("The client of the language model was closed before the answer came.")


@dataclass
class _Flight:
    task: asyncio.Task[Any]
    waiting: int = 0


class Flights:
    """Work in flight, by key: whoever asks for the same meanwhile shares it. Belongs to one event loop."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight] = {}
        self._sent: set[str] = set()
        self._closing = False

    def sent(self, key: str) -> None:
        """From now on it is let come to its end, for it may cost."""
        self._sent.add(key)

    async def share(self, key: str, make: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The result of the work in flight under this key, which is begun where there is none.

        Whoever stops waiting leaves it to the others; the last one ends it, unless it was sent.

        Returns:
            The result, and whether it was begun here.
        """
        if self._closing:
            raise closed()
        flight = self._flights.get(key)
        begun = flight is None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(make()))
            flight.task.add_done_callback(lambda task: self._over(key, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), begun
        except asyncio.CancelledError:
            if flight.task.cancelled():
                raise closed() from None
            if flight.waiting == 1 and key not in self._sent:
                flight.task.cancel()
            raise
        finally:
            flight.waiting -= 1

    async def close(self, grace: float) -> None:
        """Ends what was not sent, waits a little for what was, then ends that too."""
        self._closing = True
        for key, flight in list(self._flights.items()):
            if key not in self._sent:
                flight.task.cancel()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=grace)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _over(self, key: str, task: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        self._sent.discard(key)
        if not task.cancelled():
            task.exception()  # Marks it as seen, should nobody wait for it any more.
