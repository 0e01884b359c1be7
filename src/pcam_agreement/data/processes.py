"""Work in several processes, in order and in constant memory."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from threading import Thread
from typing import Any

from threadpoolctl import threadpool_limits


@contextmanager
def pool_of_processes(most: int | None = None) -> Iterator[Executor]:
    """A process a core, at most so many, of one thread each.

    Raises ValueError where one of them is killed.
    """
    cores = os.cpu_count() or 1
    pool = ProcessPoolExecutor(min(cores, most or cores), multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        yield pool
    except (BrokenProcessPool, MemoryError) as error:
        raise ValueError(
            "a process that makes patches was killed, probably because the memory ran out; free some and run again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(pool: Executor, function: Callable, tasks: Iterable[tuple]) -> Iterator[Any]:
    """function(*task) of every task, in their order, with a few results at most waiting in memory."""
    left = iter(tasks)
    waiting = deque(pool.submit(function, *task) for task in islice(left, 2 * (os.cpu_count() or 1)))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, *task) for task in islice(left, 1))


def _prepare_worker() -> None:
    """One thread a process; an interrupt is left to the parent, without which a worker ends."""
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
