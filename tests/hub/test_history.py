import struct
from datetime import UTC, datetime, timedelta

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from echoself_action.checkpoint.metadata import Evaluation
from echoself_action.checkpoint.model_folder import ModelFolder
from echoself_action.hub.cards.history_chart import event_file, has_trend, history_files, trend_image
from echoself_action.hub.cards.model_card_text import history_table
from echoself_action.hub.history import History, HistoryEntry, history_entry, parse_history, trend

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EMPTY = parse_history(b"")
RUN = {"repository": "me/notes", "commit": "c0ffee", "run_url": "https://github.com/me/notes/actions/runs/1"}


def folder_at(folder: ModelFolder, step: int, **changes: object) -> ModelFolder:
    assert folder.metadata
    facts = {"step": step, "tokens_seen": step * 100, "elapsed_s": step / 10, "val_loss": 5 - step / 100, **changes}
    return ModelFolder(folder.path, folder.config, folder.metadata.model_copy(update=facts))


def published(folder: ModelFolder, *steps: int) -> History:
    history = EMPTY
    for day, step in enumerate(steps):
        publish = history_entry(folder_at(folder, step), history, RUN, 2.5, NOW + timedelta(days=day))
        assert publish
        history = history.followed_by(publish)
    return history


def test_a_history_entry_records_the_model_and_the_job(model_folder: ModelFolder) -> None:
    [line] = published(model_folder, 100).entries
    assert model_folder.metadata
    assert model_folder.metadata.data
    assert (line.step, line.val_loss, line.bits_per_byte, line.published_at) == (100, 4.0, 2.5, NOW)
    assert line.data_digest == model_folder.metadata.data.digest
    assert (line.repository, line.commit, line.run_url) == tuple(RUN.values())
    assert line.device == "CPU"
    assert len(line.settings_digest or "") == 64


def test_the_duration_does_not_count_from_a_run_that_was_rolled_back(model_folder: ModelFolder) -> None:
    history = published(model_folder, 100)
    failed = history_entry(folder_at(model_folder, 180), history, RUN, 9.0, NOW, "rolled_back")
    assert failed
    after = history_entry(folder_at(model_folder, 150), history.followed_by(failed), RUN, 2.0, NOW)
    assert after
    assert after.duration_s == 5


def test_duration_is_since_the_previous_publish_and_speed_is_that_of_the_run(model_folder: ModelFolder) -> None:
    first, second = published(model_folder, 100, 160).entries
    assert (first.duration_s, first.tokens_per_second) == (10, None)  # a model that does not record its speed
    assert second.duration_s == 6
    fast = history_entry(folder_at(model_folder, 200, tokens_per_second=1234.5), EMPTY, {}, None, NOW)
    assert fast
    assert fast.tokens_per_second == 1234.5
    again = history_entry(folder_at(model_folder, 100), published(model_folder, 100, 160), {}, None, NOW)
    assert again
    assert (again.duration_s, again.tokens_per_second) == (None, None)


@pytest.mark.parametrize("damaged", [b"not json\n", b'{"step": 1}\n', b"\xff\xfe\n", b"\n\n", b'{"step": 1', b"[]\r\n"])
def test_an_invalid_line_is_kept_and_skipped(model_folder: ModelFolder, damaged: bytes) -> None:
    one = published(model_folder, 100)
    history = parse_history(one.content + damaged)
    assert history.entries == one.entries
    more = history.followed_by(one.entries[0])
    assert more.content.startswith(one.content + damaged)
    assert parse_history(more.content).entries == one.entries * 2


def test_lines_of_earlier_versions_are_read_and_shown_in_bits_per_byte() -> None:
    """They compared models in nats per token, and the first ones did not record bits per byte."""
    line = (
        b'{"published_at": "2026-01-0%d", "run_id": "a", "step": 100, "tokens_seen": 1, "elapsed_s": 1, "weights_sha256": "0", '
        b'"val_loss": 4.0%s, "compared": {"against": "c0ffee", "candidate": 4.0, "published": 4.2, "low": -0.3, "high": -0.1, '
        b'"unit": "nats per token", "windows": 9, "tokens": 99}}\n'
    )
    dated = line.replace(b"2026-01-0%d", b"2026-01-0%dT00:00:00Z")
    bare = parse_history(dated % (1, b"") + dated % (2, b""))
    assert trend(bare.entries) == ("nats per token", [(1, 4.0), (2, 4.0)])
    with_bits = parse_history(bare.content + b"".join(dated % (day, b', "bits_per_byte": 2.0') for day in (3, 4)))
    assert trend(with_bits.entries) == ("bits per byte", [(3, 2.0), (4, 2.0)])
    newest, *_, oldest = history_table(with_bits.entries).splitlines()[2:]
    assert "| 2.0000 | 4.0000 | 54.60 | -0.1000 |" in newest
    assert "|  | 4.0000 | 54.60 |  |" in oldest


def test_unknown_fields_of_an_entry_are_accepted(model_folder: ModelFolder) -> None:
    content = published(model_folder, 100).content.replace(b"{", b'{"joules": 7, ', 1)
    assert len(parse_history(content).entries) == 1


def test_a_model_without_metadata_has_no_history_entry(model_folder: ModelFolder) -> None:
    assert history_entry(ModelFolder(model_folder.path, model_folder.config, None), EMPTY, {}, None, NOW) is None


def test_two_publishes_are_enough_for_a_chart(model_folder: ModelFolder) -> None:
    history = published(model_folder, 100, 160)
    assert not has_trend(history.entries[:1])
    picture = trend_image(history.entries)
    assert picture.startswith(b"\x89PNG")
    assert trend_image(history.entries) == picture
    assert "metrics/history.png" not in history_files(published(model_folder, 100), model_folder.metadata)


def test_the_event_file_has_every_evaluation_and_publish_in_complete_records(model_folder: ModelFolder) -> None:
    measured = [Evaluation(step=50, val_loss=4.5), Evaluation(step=160, train_loss=3.5, val_loss=3.4)]
    facts = folder_at(model_folder, 160, evaluations=measured).metadata
    assert facts
    version, *events = records(event_file(published(model_folder, 100, 160), facts))
    assert version.file_version == "brain.Event:2"
    values = {(value.tag, event.step): value.simple_value for event in events for value in event.summary.value}
    assert values["loss/validation", 50] == 4.5
    assert ("loss/train", 50) not in values
    assert values["published/validation_loss", 160] == pytest.approx(3.4)
    assert values["published/bits_per_byte", 100] == 2.5
    assert events[0].wall_time == NOW.timestamp()  # of the publish that first had it


def test_the_event_file_of_a_run_keeps_its_name(model_folder: ModelFolder) -> None:
    names = [set(history_files(published(model_folder, *steps), model_folder.metadata)) for steps in ([100], [100, 160])]
    [name] = [name for name in names[0] if "tfevents" in name]
    assert name in names[1]
    assert name.startswith("runs/")


def test_an_entry_with_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        HistoryEntry(
            published_at=NOW, run_id="a", step=1, tokens_seen=1, elapsed_s=1, weights_sha256="0", val_loss=float("nan")
        )


def records(content: bytes) -> list[Event]:
    """TFRecords: length, its checksum, data, its checksum."""
    found = []
    while content:
        size, checksum = struct.unpack("<QI", content[:12])
        assert checksum == masked_crc32c(content[:8])
        data, content = content[12 : 12 + size], content[12 + size :]
        assert struct.unpack("<I", content[:4])[0] == masked_crc32c(data)
        content = content[4:]
        found.append(Event.FromString(data))
    return found
