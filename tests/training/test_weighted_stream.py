"""Batches under the weights of phases: how often each source is read, that no window mixes weights, and that nothing moves."""

import numpy as np
import pytest
import torch

from echoself_action.training.batches import Batches
from echoself_action.training.curriculum import Curriculum
from echoself_action.training.phases import Phase
from echoself_action.training.weighted_stream import WeightedSources, WeightedStream

BLOCK = 16
LENGTHS = (401, 0, 1003, 37, 650, 5)  # of the sources; the ids of source n are from 2000 n on
TEXT = np.concatenate([2000 * number + np.arange(length) for number, length in enumerate(LENGTHS)]).astype(np.uint16)
FIRST_IDS = [6010, 8324, 378, 39, 4010, 8165]


def batches(*weights: tuple[float, ...], seed: int = 0, noise: float = 0.0) -> Batches:
    """With a phase of 10 steps for each of the weights."""
    phases = tuple(Phase(f"p{number}", 1 / len(weights)) for number in range(len(weights)))
    weighted = WeightedSources(Curriculum(phases, 10 * len(weights)), LENGTHS, weights)
    return Batches(TEXT, BLOCK, seed, "corpus", noise, weighted)


def stream(weights: tuple[float, ...], block_size: int = BLOCK, lengths: tuple[int, ...] = LENGTHS) -> WeightedStream:
    def random(name: str, count: int) -> np.ndarray:
        return np.random.Philox(key=sum(name.encode())).random_raw(count)

    return WeightedStream(lengths, weights, block_size, random)


def windows_of(weighted: WeightedStream, epochs: int = 1) -> np.ndarray:
    return np.array([weighted.window(position) for position in range(epochs * weighted.windows)])


@pytest.mark.parametrize("weights", [(2, 1, 1, 1, 1, 1), (0.5, 1, 2, 0, 0.1, 7), (0, 0, 0, 3, 0, 0), (100, 1, 0.01, 1, 0, 1)])
def test_each_group_is_drawn_as_often_as_its_weight_says_to_within_one_draw(weights: tuple[float, ...]) -> None:
    weighted = stream(weights)
    masses = [weight * length / BLOCK for weight, length in zip(weights, LENGTHS, strict=True)]
    assert weighted.windows == max(1, round(sum(masses)))
    for epoch in windows_of(weighted, 3).reshape(3, weighted.windows, BLOCK + 1):
        sources = TEXT[epoch] // 2000
        for weight in set(weights):
            members = [number for number, own in enumerate(weights) if own == weight]
            wanted = sum(masses[number] for number in members) / sum(masses) * weighted.windows
            is_in = np.isin(sources, members)
            assert abs(is_in[:, 0].sum() - wanted) < 1
            assert (is_in.all(1) | ~is_in.any(1)).all()  # no window has text of two weights


def test_every_window_is_drawn_its_weight_rounded_up_or_down_and_all_text_is_read() -> None:
    weighted = stream((1, 1, 2.5, 1, 1, 1))
    drawn = windows_of(weighted)
    _, counts = np.unique(drawn[TEXT[drawn[:, 0]] // 2000 == 2], axis=0, return_counts=True)
    assert set(counts) == {2, 3}
    assert set(np.unique(windows_of(weighted, 4))) == set(range(len(TEXT)))
    assert not np.array_equal(windows_of(weighted, 2)[: weighted.windows], windows_of(weighted, 2)[weighted.windows :])


def test_text_of_weight_0_is_never_read_not_even_as_noise() -> None:
    ids, targets = batches((1, 1, 0, 1, 0, 1), noise=0.5).at(0, 500)
    assert set((torch.stack([ids, targets]).flatten() // 2000).unique().tolist()) == {0, 3, 5}
    assert (ids[:, 1:] != targets[:, :-1]).float().mean() > 0.4


@pytest.mark.parametrize("lengths", [(1, 3), (16, 17), (15, 1), (2, 4000)])
def test_sources_that_are_shorter_than_a_window_are_read_as_rings(lengths: tuple[int, int]) -> None:
    weighted = stream((3, 1), lengths=lengths)
    drawn = windows_of(weighted, 2)
    is_first = drawn < lengths[0]
    assert (is_first.all(1) | ~is_first.any(1)).all()
    assert ((drawn[:, 1:] - drawn[:, :-1] == 1) | (drawn[:, 1:] <= drawn[:, :-1])).all()


def test_a_sequence_depends_only_on_seed_position_step_and_weights() -> None:
    first, second = (2, 1, 0.5, 1, 1, 1), (1, 1, 3, 1, 0, 1)
    walked = batches(first, second)
    for position in range(400):
        walked.at(position, 1, position // 20)
    for step in (3, 12):
        expected = batches(first, second).at(7, 3, step)[0]
        assert torch.equal(walked.at(7, 3, step)[0], expected)
        assert torch.equal(torch.cat([walked.at(7, 1, step)[0], walked.at(8, 2, step)[0]]), expected)
        assert not torch.equal(batches(first, second, seed=1).at(7, 3, step)[0], expected)
    # a phase of the same weights has the same stream, whatever its place
    assert torch.equal(batches(second).at(7, 3, 0)[0], walked.at(7, 3, 12)[0])


def test_the_stream_of_a_seed_is_stable_across_versions() -> None:
    """A resumed run on a newer numpy must see the batches of the old one."""
    assert batches((2, 1, 0.5, 1, 1, 0), seed=1337).at(0, 6)[0][:, 0].tolist() == FIRST_IDS


@pytest.mark.parametrize("weights", [(1,) * 6, (2,) * 6, (0.5, 9, 0.5, 0.5, 0.5, 0.5)], ids=str)
def test_equal_weights_read_the_text_as_without_phases(weights: tuple[float, ...]) -> None:
    """Source 1, with the weight of 9, has no text."""
    plain = Batches(TEXT, BLOCK, 0, "corpus")
    assert torch.equal(batches(weights, (1, 1, 0, 1, 1, 1)).at(3, 9, 9)[0], plain.at(3, 9)[0])
    assert not torch.equal(batches(weights, (1, 1, 0, 1, 1, 1)).at(3, 9, 10)[0], plain.at(3, 9)[0])
