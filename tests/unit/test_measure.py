"""The clock, with a fake one; the machine-wide lock, with real processes."""

import mmap
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest

from bench import measure
from bench.errors import BenchError
from bench.measure import Clock, calls_of_a_sample, exclusive, once, repeats


class FakeTime:
    """A clock that moves only when the measured call says so; CPU time runs at twice the wall's pace."""

    def __init__(self, durations):
        self.now, self.durations, self.calls = 0.0, list(durations), 0

    def call(self):
        self.now += self.durations[min(self.calls, len(self.durations) - 1)]
        self.calls += 1

    @property
    def clock(self):
        return Clock(wall=lambda: self.now, cpu=lambda: 2 * self.now)


def test_one_call_is_timed_by_wall_and_cpu():
    fake = FakeTime([0.25])
    sample = once(fake.call, fake.clock)
    assert (sample.wall, sample.cpu, sample.calls) == (0.25, 0.5, 1)


def test_a_sample_of_several_calls_is_their_mean():
    fake = FakeTime([0.25, 0.5, 0.75, 1.0])
    sample = once(fake.call, fake.clock, calls=4)
    assert (sample.wall, sample.cpu, sample.calls) == (0.625, 1.25, 4)
    assert fake.calls == 4


def clock_of(walls, cpus=(0.0,) * 99):
    walls, cpus = iter(walls), iter(cpus)
    return Clock(wall=lambda: next(walls), cpu=lambda: next(cpus))


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (clock_of([5.0, 4.5]), r"the wall clock went backwards by 0\.5 s during a timed call"),
        (clock_of([5.0, 5.0]), "the wall clock stood still during a timed call"),
        (clock_of([5.0, float("nan")]), "the wall clock went backwards"),
        (clock_of([5.0, 6.0], [2.0, 1.75]), r"the CPU clock went backwards by 0\.25 s"),
    ],
)
def test_a_clock_that_does_not_go_forward_is_told_and_gives_no_sample(clock, said):
    with pytest.raises(BenchError, match=said):
        once(lambda: None, clock)


def test_a_clock_that_goes_backwards_later_ends_the_repeats():
    with pytest.raises(BenchError, match="went backwards"):
        repeats(lambda: None, least=3, clock=clock_of([0.0, 1.0, 1.0, 2.0, 2.0, 1.5]))


def test_cpu_time_may_stand_still():
    assert once(lambda: None, clock_of([0.0, 1.0])).cpu == 0.0


@pytest.mark.parametrize(
    ("seconds", "calls"), [(1.0, 1), (1e-2, 1), (2e-3, 1), (1e-3, 1), (4e-4, 3), (1e-4, 12), (1e-6, 1200)]
)
def test_calls_too_short_for_the_clock_are_timed_together(seconds, calls):
    fake = FakeTime([seconds])
    found = calls_of_a_sample(fake.call, once(fake.call, fake.clock), fake.clock)
    assert found == pytest.approx(calls, abs=1)  # one where a product is rounded up
    assert found * seconds >= measure.SHORTEST


def test_the_calibration_does_not_believe_a_slow_first_call():
    fake = FakeTime([5e-3, 1e-4])
    assert calls_of_a_sample(fake.call, once(fake.call, fake.clock), fake.clock) >= 10


def test_the_calibration_ends_also_for_a_call_that_takes_next_to_nothing():
    fake = FakeTime([1e-12])
    assert calls_of_a_sample(lambda: fake.call(), once(fake.call, fake.clock), fake.clock) == measure.MOST_CALLS


def test_short_calls_are_repeated_until_the_seconds_are_measured():
    fake = FakeTime([1e-4])
    samples = repeats(fake.call, least=3, seconds=0.01, most=1000, clock=fake.clock)
    assert {s.calls for s in samples} == {12}
    assert all(s.wall == pytest.approx(1e-4) for s in samples)
    assert len(samples) == 9  # 9 · 12 · 1e-4 is the first above 0.01


def test_a_sample_counts_page_faults_and_switches():
    # Fresh pages of the kernel: an array may get memory that the heap has already touched (seen in a long test run).
    with mmap.mmap(-1, 64 << 20) as pages:
        sample = once(lambda: pages.write(bytes(64 << 20)))
    assert sample.minor_faults > 8
    assert sample.major_faults >= 0
    assert sample.switches >= 0


def test_the_warm_up_is_called_and_not_counted():
    fake = FakeTime([100.0, 1.0])
    samples = repeats(fake.call, least=3, seconds=0.1, most=10, clock=fake.clock)
    assert [s.wall for s in samples] == [1.0, 1.0, 1.0]
    assert fake.calls == 4


def test_without_warm_up_the_first_call_counts():
    fake = FakeTime([8.0, 1.0])
    samples = repeats(fake.call, least=2, seconds=0.1, most=10, warm=False, clock=fake.clock)
    assert [s.wall for s in samples] == [8.0, 1.0]


@pytest.mark.parametrize(
    ("duration", "least", "seconds", "most", "expected"),
    [
        (1.0, 5, 0.5, 50, 5),  # slow: the least
        (0.125, 3, 1.0, 50, 8),  # on until the seconds are measured
        (0.001953125, 3, 1.0, 50, 50),  # fast: the most
        (0.25, 4, 1.0, 50, 4),  # the seconds are reached with the least
        (1.0, 5, 0.5, 2, 5),  # the least wins over the most
    ],
)
def test_repeats_go_on_until_least_and_seconds_or_most(duration, least, seconds, most, expected):
    fake = FakeTime([duration])
    samples = repeats(fake.call, least=least, seconds=seconds, most=most, clock=fake.clock)
    assert len(samples) == expected
    assert fake.calls - expected == (1 if duration >= 10 * measure.SHORTEST else 2)  # warm-up, calibration


def test_an_error_of_the_call_is_not_swallowed():
    def fail():
        raise MemoryError("no")

    with pytest.raises(MemoryError):
        repeats(fail)


def test_the_real_clock_sees_a_sleep_on_the_wall_and_not_on_the_cpu():
    sample = once(lambda: time.sleep(0.1))
    assert 0.1 <= sample.wall < 5
    assert sample.cpu < 0.09


def test_memory_that_is_touched_is_resident():
    before = measure.current_rss()
    block = np.ones(1 << 23)
    assert measure.current_rss() - before >= 0.9 * block.nbytes
    assert measure.peak_rss() >= measure.current_rss() - (1 << 20)


HOLD = """
import sys, time
from pathlib import Path
from bench.measure import exclusive
with exclusive(Path(sys.argv[1])):
    begin = time.monotonic()
    print("inside", flush=True)
    time.sleep(float(sys.argv[2]))
    print(begin, time.monotonic(), flush=True)
"""


def holder(lock, seconds):
    return subprocess.Popen([sys.executable, "-c", HOLD, str(lock), str(seconds)], stdout=subprocess.PIPE, text=True)


def test_no_two_processes_are_inside_at_once(tmp_path):
    running = [holder(tmp_path / "lock", 0.3) for _ in range(3)]
    intervals = sorted(tuple(map(float, p.communicate(timeout=60)[0].split()[1:])) for p in running)
    assert all(end - begin >= 0.3 for begin, end in intervals)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(intervals))


def test_the_machine_is_free_once_its_holder_is_killed(tmp_path):
    other = holder(tmp_path / "lock", 600)
    assert other.stdout.readline() == "inside\n"
    other.kill()
    other.communicate()
    with exclusive(tmp_path / "lock") as waited:
        assert waited < 60


def test_the_wait_is_told(tmp_path):
    other = holder(tmp_path / "lock", 0.5)
    other.stdout.readline()
    with exclusive(tmp_path / "lock") as waited:
        assert waited > 0.1
    other.communicate()


class Cuda:
    """CUDA's events where the GPU needs 3 ms for everything that was asked of it before a wait."""

    now = 0.0

    class Event:
        def record(self):
            self.at = Cuda.now

        def synchronize(self):
            Cuda.waited += 1

    waited = 0

    @staticmethod
    def get_elapsed_time(one, other):
        return float(np.float32(1e3 * (other.at - one.at)))  # as CUDA tells it


def test_a_stream_s_clock_waits_and_keeps_what_float32_would_lose():
    clock = measure.stream_clock(Cuda)
    for _ in range(1000):
        Cuda.now += 0.54321  # nine minutes
        clock.wall()
    Cuda.waited, before = 0, clock.wall()
    Cuda.now += 2e-6
    assert clock.wall() - before == pytest.approx(2e-6, rel=1e-3)
    assert Cuda.waited == 1
    assert clock.wall() == pytest.approx(1000 * 0.54321 + 2e-6, rel=1e-7)


def test_a_sample_by_a_stream_s_clock_is_the_mean_of_its_calls():
    def call():
        Cuda.now += 0.003

    sample = measure.once(call, measure.stream_clock(Cuda), calls=7)
    assert sample.wall == pytest.approx(0.003)
    assert sample.calls == 7
