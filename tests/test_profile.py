"""Profiles of a device that does not exist, with a clock and a memory of its own; and what of them is kept on disk."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tamis.models import profile as module
from tamis.models.batching import Cost
from tamis.models.profile import Key, Probe, Profile, cache_folder, measure_by_clock, peak_flops, profile

KEY = Key("fake", 10**9, "float32", "model", 512, 2, "2.13.0", "0.1.0")
OTHER = {
    "device": "fake 2",
    "memory": 2 * 10**9,
    "dtype": "bfloat16",
    "model": "model packed",
    "max_length": 256,
    "threads": 1,
    "torch_version": "2.13.1",
    "tamis_version": "0.2.0",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class NoMemoryError(Exception):
    pass


class Device:
    """Measures by two laws, has a limit of memory, and a clock that moves when it works."""

    def __init__(self, seconds, memory=None, limit=math.inf):
        self.law, self.memory, self.limit = seconds, memory, limit
        self.now, self.ran = 0.0, []

    def measure(self, rows, length):
        took = self.law(rows, length) if callable(self.law) else self.law.of(rows, length)
        self.now += took
        self.ran.append((rows, length))
        if self.memory is None:
            return None, took
        size = self.memory.of(rows, length)
        if size > self.limit:
            raise NoMemoryError
        return size, took

    def profile(self, key=KEY, **options):
        return profile(self.measure, key=key, out_of_memory=(NoMemoryError,), clock=lambda: self.now, **options)


FAST = Cost(fixed=1e-3, per_token=1e-6, per_square=1e-10)
BYTES = Cost(fixed=1e6, per_token=5e4, per_square=40.0)


def test_the_laws_are_found_and_the_budget_follows():
    found = Device(FAST, BYTES).profile(memory=1e12)
    for point in [(1, 512), (128, 512), (1000, 30)]:
        assert found.seconds.of(*point) == pytest.approx(FAST.of(*point), rel=1e-3)
        assert found.memory.of(*point) == pytest.approx(BYTES.of(*point), rel=1e-3)
    # 1 ms to start and 1.03 µs per token: 961,000 tokens/s at 65,536 tokens, 920,000 at 16,384, 872,000 at 8,192.
    assert found.tokens == 16_384
    budget = found.budget(memory=1e9, rows=100, packed=True)
    assert (budget.tokens, budget.rows, budget.memory, budget.packed) == (16_384, 100, 0.9e9, True)
    assert budget.fits(10, 512)
    assert not budget.fits(31, 512)  # few enough tokens, and 1.1 GB
    assert found.budget().memory is None


@pytest.mark.parametrize(("start", "tokens"), [(0.0, 512), (2e-5, 512), (1e-4, 2048), (1e-3, 16_384), (1.0, 65_536)])
def test_the_smallest_size_near_the_best_rate_is_taken(start, tokens):
    device = Device(Cost(fixed=start, per_token=1e-6))
    assert device.profile(limit=1e9, slowest=1e9).tokens == tokens
    best = 65_536 / device.law.of(256, 256)
    assert tokens / device.law.of(tokens // 256, 256) >= 0.95 * best
    assert tokens == 512 or tokens / 2 / device.law.of(tokens // 512, 256) < 0.95 * best


def test_a_device_that_slows_down_with_size_gets_small_batches():
    assert Device(lambda rows, n: 1e-5 * rows * n * (1 + (rows * n > 2048))).profile().tokens == 512


def test_sizes_grow_and_every_length_is_measured():
    device = Device(FAST, BYTES)
    device.profile(memory=1e12)
    sizes = [rows * n for rows, n in device.ran]
    assert device.ran[:4] == [(1, 64), (1, 64), (1, 256), (2, 256)]  # one to warm up
    assert sizes == sorted(sizes)
    assert sizes[-1] == 65_536
    assert {n for _, n in device.ran} == {64, 256, 512}


@example(per_token=1e-4, per_square=1e-6, fixed=0.0, longest=8192)  # a longer text took 2.5 times the estimate
@given(st.floats(1e-7, 1e-2), st.floats(0, 1e-6), st.floats(0, 0.3), st.sampled_from([16, 128, 512, 1024, 8192]))
def test_a_profile_takes_less_than_five_seconds_on_any_device(per_token, per_square, fixed, longest):
    # Attention of at most as much work as the rest at 1,024 tokens.
    device = Device(Cost(fixed, per_token, min(per_square, per_token / 1024)))
    key = dataclasses.replace(KEY, max_length=longest)
    found = device.profile(key, refresh=True)
    warm = 2 * device.law.of(1, min(64, longest))
    assert device.now <= max(warm, 5.0)
    assert 512 <= found.tokens <= 65_536
    assert found.sure or found.tokens == 2048
    assert found.seconds.of(1, longest) > 0


def test_time_is_kept_for_each_batch_and_for_all():
    slow = Device(Cost(per_token=1e-4))
    slow.profile(limit=1e9)
    took = [slow.law.of(*point) for point in slow.ran]
    assert 0.5 < max(took) <= 1.0
    # Many batches of a quarter of a second each: time ends before the sizes do.
    steady = Device(Cost(fixed=0.24))
    steady.profile(refresh=True)
    assert 4.0 < steady.now <= 4.5


def test_from_two_sizes_nothing_is_concluded_or_kept(folder):
    busy = Device(Cost(fixed=0.5, per_token=1e-6), BYTES)
    found = busy.profile(memory=1e12)
    assert (found.sure, found.tokens, found.memory) == (False, 2048, None)
    assert found.budget(memory=1e9).memory is None
    assert not folder.exists()
    assert Device(FAST, BYTES).profile().sure
    probes = [Probe(rows, 256, None, 1e-6 * rows) for rows in (1, 2, 4, 8)]
    assert [Profile.of(probes[:n]).sure for n in (1, 2, 3, 4)] == [False, False, False, True]


def test_sizes_are_compared_at_the_typical_length():
    def probe(rows, length, rate):
        return Probe(rows, length, None, rows * length / rate)

    # By the short texts 4,096 tokens would be best, and by all together too.
    shorts = [probe(8, 64, 1000.0), probe(64, 64, 9000.0)]
    found = Profile.of([*shorts, probe(2, 256, 500.0), probe(4, 256, 960.0), probe(8, 256, 1000.0)])
    assert found.tokens == 1024


def test_no_batch_is_tried_that_would_not_fit():
    device = Device(FAST, BYTES, limit=0.9e9)
    found = device.profile(memory=1e9)
    assert max(BYTES.of(*point) for point in device.ran) > 0.3e9
    assert found.tokens <= 16_384
    # The law was not stopped by running into it.
    assert len(device.ran) == 1 + len(found.probes)


def test_memory_that_ends_early_stops_the_growth_and_nothing_else():
    device = Device(FAST, BYTES, limit=1e8)
    found = device.profile(memory=1e12)  # ten thousand times what there is
    failed = [point for point in device.ran if BYTES.of(*point) > 1e8]
    assert 0 < len(failed) <= 3  # once for each length, not for each size
    assert all(BYTES.of(p.rows, p.length) <= 1e8 for p in found.probes)
    assert found.memory.of(100, 512) == pytest.approx(BYTES.of(100, 512), rel=1e-3)


def test_no_memory_for_one_short_text_is_the_callers_to_say():
    with pytest.raises(NoMemoryError):
        Device(FAST, BYTES, limit=10).profile()


def test_memory_that_cannot_be_told_leaves_tokens_alone():
    found = Device(FAST).profile()
    assert found.memory is None
    assert found.budget(memory=1e9).memory is None


# The cache


def test_a_second_profile_is_read_and_says_the_same(folder):
    first = Device(FAST, BYTES).profile(memory=1e12)
    device = Device(Cost(fixed=1.0))
    assert device.profile() == first
    assert device.ran == []
    assert device.profile(refresh=True) != first
    assert device.ran
    assert [path.suffix for path in folder.iterdir()] == [".json"]  # nothing half-written beside it


@pytest.mark.parametrize("name", OTHER)
def test_everything_that_a_measurement_depends_on_is_in_its_key(name):
    other = dataclasses.replace(KEY, **{name: OTHER[name]})
    assert other.digest() != KEY.digest()
    Device(FAST).profile()
    device = Device(FAST)
    device.profile(other)
    assert device.ran
    assert set(OTHER) == {field.name for field in dataclasses.fields(Key)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04pickle",
        b"null",
        b"[]",
        b'{"key": {}, "value": {}}',
        b'{"key": KEY}',
        b'{"key": KEY, "value": null}',
        b'{"key": KEY, "value": {"probes": []}}',
        b'{"key": KEY, "value": {"probes": [[1, 64, null]]}}',
        b'{"key": KEY, "value": {"probes": [[0, 64, null, 1.0]]}}',
        b'{"key": KEY, "value": {"probes": [[1, 64, "many", 1.0]]}}',
        b'{"key": KEY, "value": {"probes": [[1, 64, null, NaN]]}}',
        b'{"key": KEY, "value": {"probes": 7}}',
    ],
)
def test_a_damaged_file_is_measured_anew(folder, content):
    first = Device(FAST).profile()
    (path,) = folder.iterdir()
    good = path.read_bytes()
    key = json.dumps(dataclasses.asdict(KEY)).encode()
    path.write_bytes(content.replace(b"KEY", key))
    device = Device(FAST)
    assert device.profile() == first
    assert device.ran
    assert path.read_bytes() == good


def test_a_file_of_another_key_is_not_believed(folder):
    Device(FAST).profile()
    (path,) = folder.iterdir()
    other = dataclasses.replace(KEY, threads=64)
    path.rename(folder / f"profile-{other.digest()}.json")
    device = Device(FAST)
    device.profile(other)
    assert device.ran


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        device = Device(FAST)
        assert device.profile().tokens
        assert device.ran


def test_a_write_that_fails_leaves_nothing_behind(folder, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert Device(FAST).profile().tokens
    assert list(folder.iterdir()) == []


def test_the_folder_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("TAMIS_CACHE", "")
    assert cache_folder() == tmp_path / "xdg" / "tamis"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / "home" / ".cache" / "tamis"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
    assert Device(FAST).profile().tokens


# This machine


def test_the_key_of_this_machine_tells_dtype_model_length_and_threads(monkeypatch):
    cpu = torch.device("cpu")
    keys = [
        Key.here(cpu, torch.float32, model="a", max_length=512),
        Key.here(cpu, torch.bfloat16, model="a", max_length=512),
        Key.here(cpu, torch.float32, model="b", max_length=512),
        Key.here(cpu, torch.float32, model="a", max_length=256),
    ]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    keys.append(Key.here(cpu, torch.float32, model="a", max_length=512))
    assert len({key.digest() for key in keys}) == len(keys)
    assert keys[0].memory > 10**8
    assert keys[0].torch_version == torch.__version__


def test_the_clock_takes_the_fastest_of_three_short_runs_and_one_long_run():
    ran = []
    size, seconds = measure_by_clock(lambda rows, length: ran.append((rows, length)))(3, 5)
    assert size is None
    assert 0 < seconds < 0.1
    assert ran == [(3, 5)] * 3
    times = iter([0.0, 0.2])
    assert module._fastest(lambda: None, lambda: None, lambda: next(times)) == 0.2
    times = iter([0.0, 0.04, 1.0, 1.01, 2.0, 2.03])
    assert module._fastest(lambda: None, lambda: None, lambda: next(times)) == pytest.approx(0.01)


def test_the_peak_is_measured_once_and_again_when_asked(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setitem(module._SHAPES, "cpu", ((32, 64, 64), (64, 64, 32)))
    measured = []
    real = module._product_rate

    def product_rate(device, dtype, shape, *, seconds):
        measured.append(shape)
        return real(device, dtype, shape, seconds=0.001)

    monkeypatch.setattr(module, "_product_rate", product_rate)
    first = peak_flops(cpu, torch.float32)
    assert 1e6 < first < 1e15
    assert peak_flops(cpu, torch.float32) == first
    assert len(measured) == 2
    peak_flops(cpu, torch.float32, refresh=True)
    peak_flops(cpu, torch.bfloat16)
    assert len(measured) == 6


def test_the_peak_is_that_of_the_fastest_shape(monkeypatch):
    rates = iter([3.0, 5.0])
    monkeypatch.setattr(module, "_product_rate", lambda *shape, seconds: next(rates))
    assert peak_flops(torch.device("cpu"), torch.float32) == 5.0


def test_the_peak_is_that_of_the_fastest_product():
    times = iter([0.0, 0.0, 0.004, 0.004, 0.004, 0.005, 0.005, 0.005, 0.009, 0.009, 99.0])
    rate = module._product_rate(
        torch.device("cpu"), torch.float32, (10, 20, 30), seconds=0.01, clock=lambda: next(times, 99.0)
    )
    assert rate == pytest.approx(2 * 10 * 20 * 30 / 0.001)


def test_importing_it_is_light():
    import subprocess

    code = "import sys, tamis.models.profile; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_profile_goes_through_json():
    found = Device(FAST, BYTES).profile()
    assert Profile.from_json(json.loads(json.dumps(found.to_json()))) == found
