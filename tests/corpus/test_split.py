from pathlib import Path

from echoself_action.corpus.readers import read_documents
from echoself_action.corpus.split import Piece, Segment, is_validation, segments, split_position


def test_split_positions_are_stable() -> None:
    """Should this fail, every published val_loss stops being comparable: mend the code, not the numbers."""
    assert split_position("To be, or not to be") == 0.41546139753176214
    assert split_position("é🙂") == 0.8765578688143417


def test_about_the_fraction_is_held_out() -> None:
    held_out = sum(is_validation(f"document {i}", 0.1) for i in range(20_000))
    assert abs(held_out - 2_000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5


def test_raising_the_fraction_moves_documents_to_validation_only() -> None:
    texts = [f"document {i}" for i in range(1_000)]
    assert all(is_validation(text, 0.2) for text in texts if is_validation(text, 0.1))
    assert not any(is_validation(text, 0.0) for text in texts)
    assert all(is_validation(text, 1.0) for text in texts)


def test_surrounding_white_space_does_not_change_the_split() -> None:
    assert split_position("text") == split_position("\n text\n\n")


def test_documents_stay_in_their_split_as_a_file_grows(shakespeare: str, tmp_path: Path) -> None:
    def held_out(text: str) -> set[str]:
        path = tmp_path / "text.txt"
        path.write_text(text, encoding="utf-8")
        return {document.text for document in read_documents([path], "fail", print) if is_validation(document.text, 0.1)}

    before, after = held_out(shakespeare[: len(shakespeare) // 2]), held_out(shakespeare)
    assert len(before - after) <= 1  # the last passage of the shorter file is another text now
    assert len(before) > 5


def test_adjacent_passages_are_joined() -> None:
    pieces = [Piece("a"), Piece("b", continues=True), Piece("c"), Piece("d", continues=True)]
    assert list(segments(pieces)) == [Segment("ab", documents=2, ends=True), Segment("cd", documents=2, ends=True)]


def test_documents_of_different_files_are_not_joined() -> None:
    assert list(segments([Piece("a"), Piece("b")])) == [Segment("a", 1, ends=True), Segment("b", 1, ends=True)]


def test_the_parts_of_a_document_count_once() -> None:
    pieces = [Piece("a"), Piece("b", documents=0), Piece("c", continues=True)]
    assert [segment.documents for segment in segments(pieces)] == [1, 1]


def test_a_long_text_is_segmented_without_end_of_text() -> None:
    flow = list(segments(Piece("a" + "\n" * 10_000, continues=i > 0) for i in range(250)))
    assert [stretch.ends for stretch in flow] == [False, False, True]
    assert sum(stretch.documents for stretch in flow) == 250
