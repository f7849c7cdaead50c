"""Threads get the model one at a time, in the order in which they asked."""

import threading
import time

import pytest

from detox_engine.model.threads import Turns


def test_turns_are_taken_one_at_a_time_and_in_order():
    turns, order, inside, most = Turns(), [], 0, 0
    gate = threading.Event()

    def work(name):
        nonlocal inside, most
        with turns:
            inside += 1
            most = max(most, inside)
            order.append(name)
            time.sleep(0.002)
            inside -= 1

    with turns:
        threads = []
        for name in range(8):
            threads.append(threading.Thread(target=work, args=(name,)))
            threads[-1].start()
            while len(turns._queue) < name + 2:
                gate.wait(0.001)
    for thread in threads:
        thread.join(5)
    assert order == list(range(8)) and most == 1


def test_a_short_job_gets_in_between_the_batches_of_a_long_one():
    turns, order = Turns(), []
    started = threading.Event()

    def long():
        for batch in range(50):
            with turns:
                order.append(batch)
                started.set()
                time.sleep(0.002)

    thread = threading.Thread(target=long)
    thread.start()
    started.wait(5)
    with turns:
        order.append("short")
    thread.join(5)
    assert order.index("short") < 25


def test_a_failure_gives_the_turn_up():
    turns = Turns()
    with pytest.raises(ValueError), turns:
        raise ValueError
    with turns:
        pass
