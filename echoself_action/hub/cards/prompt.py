"""A prompt for the example code of a card: text that the tokenizer of the model can encode."""

from pathlib import Path

import tokenizers

from ...corpus.tokenizer import TOKENIZER_FILE

_USUAL = "The"


def example_prompt(folder: Path) -> str:
    """The usual prompt; for a vocabulary without it (of ids, of few characters), its first token that can be encoded."""
    backend = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    if _is_encoded(backend, _USUAL):
        return _USUAL
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    by_id = (backend.id_to_token(number) for number in range(backend.get_vocab_size()))
    candidates = (token for token in by_id if token and token not in special and token.isprintable() and token.strip())
    return next((token for token in candidates if _is_encoded(backend, token)), _USUAL)


def _is_encoded(backend: tokenizers.Tokenizer, text: str) -> bool:
    """Whether `text` gives ids, and none of them stands for an unknown token."""
    try:
        ids = backend.encode(text, add_special_tokens=False).ids
    except Exception:  # tokenizers raises no other, as for a word that a vocabulary without an unknown token lacks
        return False
    unknown = getattr(backend.model, "unk_token", None)
    return bool(ids) and (unknown is None or backend.token_to_id(str(unknown)) not in ids)
