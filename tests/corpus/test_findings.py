from echoself_action.corpus.findings import FileFindings, Finding, condensed


def test_a_kind_is_counted_in_a_file_with_its_first_example() -> None:
    found = FileFindings("chats.jsonl")
    for line in range(1, 4):
        found.add("rejected answers", f"line\n{line}", is_loss=False)
    found.add("cut texts", "x" * 1000)
    reported: list[Finding] = []
    found.report_to(reported.append)
    assert reported[0] == Finding("rejected answers", "chats.jsonl", 3, "line 1", is_loss=False)
    assert reported[1] == Finding("cut texts", "chats.jsonl", 1, "x" * 300 + "...")


def test_many_files_with_the_same_kind_are_counted_together() -> None:
    found = [Finding("empty files", f"{number}.md", 2, "is empty") for number in range(25)]
    kept = condensed([*found, Finding("keys not learnt", "a.jsonl", 1, "`id`", is_loss=False)])
    assert kept[:10] == tuple(found[:10])
    assert str(kept[10]) == "empty files (30): 15 other files: 10.md: is empty"
    assert str(kept[11]) == "keys not learnt (1): a.jsonl: `id`"
