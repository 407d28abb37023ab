import numpy as np
import pytest
import torch

from echoself_action.training.batches import Batches


def batches(length: int = 1000, block_size: int = 16, seed: int = 0, digest: str = "corpus") -> Batches:
    return Batches(np.arange(length, dtype=np.uint16), block_size, seed, digest)


def test_targets_are_the_inputs_shifted_by_one_token() -> None:
    ids, targets = batches().at(0, 5)
    assert ids.shape == targets.shape == (5, 16)
    assert ids.dtype == torch.int64
    assert torch.equal(targets, ids + 1)


def test_sequence_depends_only_on_seed_position_and_corpus() -> None:
    walked = batches()
    for position in range(300):
        walked.at(position, 1)
    assert torch.equal(walked.at(7, 3)[0], batches().at(7, 3)[0])
    assert not torch.equal(batches(seed=1).at(0, 8)[0], batches().at(0, 8)[0])
    assert not torch.equal(batches(digest="other").at(0, 8)[0], batches().at(0, 8)[0])


def test_stream_does_not_depend_on_batch_size() -> None:
    stream, _ = batches().at(0, 200)
    pieces = torch.cat([batches().at(start, 8)[0] for start in range(0, 200, 8)])
    assert torch.equal(stream, pieces)


def test_epoch_visits_each_window_once_with_a_new_offset_per_epoch() -> None:
    stream = batches()
    starts = stream.at(0, stream.windows)[0][:, 0]
    assert len(starts.unique()) == stream.windows
    assert (starts.sort().values.diff() == 16).all()
    following = stream.at(stream.windows, stream.windows)[0][:, 0]
    assert not torch.equal(starts, following)


def test_stream_of_a_seed_is_stable_across_versions() -> None:
    """A resumed run on a newer numpy must see the batches of the old one."""
    assert batches(seed=1337).at(0, 6)[0][:, 0].tolist() == FIRST_STARTS


def test_noise_replaces_a_fraction_of_the_inputs_by_training_tokens_and_no_targets() -> None:
    plain, noised = (Batches(np.arange(1000, dtype=np.uint16), 16, 0, "corpus", noise) for noise in (0.0, 0.25))
    (ids, targets), (noised_ids, noised_targets) = plain.at(0, 500), noised.at(0, 500)
    assert torch.equal(targets, noised_targets)
    assert 0.23 < (ids != noised_ids).float().mean() < 0.27
    assert noised_ids.max() < 1000
    assert (ids != noised_ids)[:62].float().mean(1).unique().numel() > 3  # each sequence has a selection of its own


def test_noise_depends_only_on_seed_position_and_corpus() -> None:
    noised = Batches(np.arange(1000, dtype=np.uint16), 16, 0, "corpus", 0.25)
    stream = noised.at(0, 200)[0]
    assert torch.equal(stream, torch.cat([noised.at(start, 8)[0] for start in range(0, 200, 8)]))
    assert not torch.equal(stream, Batches(np.arange(1000, dtype=np.uint16), 16, 1, "corpus", 0.25).at(0, 200)[0])


FIRST_STARTS = [713, 169, 9, 505, 105, 89]


@pytest.mark.parametrize("length", [17, 18, 31, 32, 33, 47, 160])
def test_windows_cover_all_tokens_and_stay_in_range(length: int) -> None:
    stream = batches(length)
    _, targets = stream.at(0, 200 * stream.windows)
    assert targets.max() < length
    assert targets.max() == length - 1  # over many offsets the last token is a target too


def test_too_few_tokens_for_one_window_is_an_error() -> None:
    with pytest.raises(ValueError, match="16 tokens are too few for a block of 16"):
        batches(16)
