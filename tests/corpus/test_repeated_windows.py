"""Held-out ids that are also trained on are found with their share, in one pass over token files."""

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from echoself_action.corpus import repeated_windows
from echoself_action.corpus.leaks import COMMON
from echoself_action.corpus.repeated_windows import WINDOW, find_repeated_windows

Ids = npt.NDArray[np.uint16]


def random_ids(size: int, seed: int) -> Ids:
    """Ids as unevenly distributed as those of text (Zipf's law)."""
    chances = 1 / np.arange(1, 8193)
    return np.random.default_rng(seed).choice(8192, size, p=chances / chances.sum()).astype(np.uint16)


def test_a_planted_leak_is_found_with_its_share() -> None:
    train, val = random_ids(400_000, 0), random_ids(40_000, 1)
    clean = find_repeated_windows(train, val)
    assert clean
    assert (clean.compared, clean.repeated) == (40_000, 0)
    for begin, place in ((1_000, 33_333), (9_000, 200_001), (20_000, 399_000 - 3_000)):  # at no multiple of anything
        train[place : place + 3_000] = val[begin : begin + 3_000]
    found = find_repeated_windows(train, val)
    assert found
    assert found.share == pytest.approx(9_000 / 40_000, abs=0.01)
    assert (found.common, found.is_whole) == (0, True)


def test_each_repeated_token_is_counted_once_and_no_other() -> None:
    train, val = random_ids(3_000, 0), random_ids(1_000, 1)
    val[100 : 100 + WINDOW + 7] = train[500 : 500 + WINDOW + 7]
    val[600 : 600 + WINDOW - 1] = train[900 : 900 + WINDOW - 1]  # too short
    found = find_repeated_windows(train, val)
    naive = np.zeros(len(val), bool)
    windows = {train[i : i + WINDOW].tobytes() for i in range(len(train) - WINDOW + 1)}
    for i in range(len(val) - WINDOW + 1):
        naive[i : i + WINDOW] |= val[i : i + WINDOW].tobytes() in windows
    assert found
    assert found.repeated == naive.sum() == WINDOW + 7


def test_text_with_many_copies_is_common() -> None:
    prompt = random_ids(200, 7)
    train = np.concatenate([np.concatenate([prompt, random_ids(300, seed)]) for seed in range(COMMON)])
    val = np.concatenate([prompt, random_ids(300, 99), train[250:400]])
    found = find_repeated_windows(train, val)
    assert found
    assert (found.repeated, found.common) == (350, 200)


def test_a_held_out_file_that_is_the_training_text_is_repeated_as_a_whole() -> None:
    sentences = np.frombuffer(b"Echo Self is a cognitive architecture with adaptive attention. ", np.uint8)
    found = find_repeated_windows(np.tile(sentences, 100), np.tile(sentences, 20))
    assert found
    assert found.repeated == found.compared == found.common == 20 * len(sentences)


def test_less_than_a_window_is_not_compared() -> None:
    assert find_repeated_windows(random_ids(1_000, 0), random_ids(WINDOW - 1, 0)) is None


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = random_ids(9_000, 0), random_ids(3_000, 1)
    train[4_000:4_200] = val[1_000:1_200]
    whole = find_repeated_windows(train, val)
    monkeypatch.setattr(repeated_windows, "_CHUNK", 97)
    assert find_repeated_windows(train, val) == whole


def test_more_than_the_limit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_windows, "MOST_HELD_OUT", 1_000)
    found = find_repeated_windows(random_ids(9_000, 0), random_ids(3_000, 1))
    assert found
    assert (found.compared, found.is_whole) == (1_000, False)


def test_memory_does_not_grow_with_the_training_file() -> None:
    def peak(size: int) -> int:
        train, val = random_ids(size, 0), random_ids(10_000, 1)
        tracemalloc.start()
        find_repeated_windows(train, val)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    once = peak(1 << 19)
    assert peak(1 << 20) < 1.2 * once
