import pytest

from echoself_action.hub.signature import named_in


@pytest.mark.parametrize("digest", [b"ab", b"a'b", b'a"b', b"a'" + b'"b'])
def test_file_names_are_found_in_messages_of_model_signing_with_any_digest_bytes(digest: bytes) -> None:
    found = [f"Hash mismatch for '{name}': Expected '{digest!r}', Actual '{digest!r}'" for name in ("config.json", "a.json")]
    assert named_in(f"Signature mismatch: {[*found, 'Missing files in model: b.json']}") == ["config.json", "a.json", "b.json"]
