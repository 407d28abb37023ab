"""The sections of the model card: Markdown, rendered from the metadata and the history."""

import json
from collections.abc import Sequence
from typing import Any

from ...checkpoint.architectures import Architecture
from ...checkpoint.metadata import (
    BITS_PER_BYTE,
    Comparison,
    DatasetFacts,
    Metadata,
    ParityFacts,
    leaks_text,
    loss_text,
    parity_text,
)
from ...corpus.tokenizer import IDS
from ...markdown import code, escaped, number, table
from ..history import HistoryEntry
from ..repo import CHART_FILE, HISTORY_FILE
from .history_chart import has_trend, perplexity
from .origin import origin_rows, steps_text, tokens_seen_text, training_settings

ACTION_URL = "https://github.com/9cog/echoself-action"
_SHOWN = 10  # publishes in the table; the file has all of them

_OWN_LIMITS = """## Intended use and limits

This model is intended for generating text in the style of its training corpus, for studying how small models learn, and for
further training.

This is a base language model: it continues text and does not follow instructions. It is small and was trained on a single
corpus, so it reproduces the errors and biases of that corpus and generates false statements. It has not been fine-tuned for
safety. Do not base decisions on its output.
"""
_OTHER_LIMITS = """## Intended use and limits

This model is intended for generating text, for studying language models, and for further training.

It continues text. It reproduces the errors and biases of all texts that it was trained on, which are not fully known here, and
generates false statements. No training for safety is recorded. Do not base decisions on its output.
"""


def about(config: Any, architecture: Architecture, facts: Metadata | None) -> str:
    """Architecture, sizes, and who trained it, with the notes of the architecture."""
    name = architecture.display_name
    return f"""A {name} language model with {config.n_layer} layers, {config.n_head} heads, width {config.n_embd}, a context of
{config.block_size} tokens and a vocabulary of {config.vocab_size} tokens, {_made(facts)}
{architecture.config.card_text(config)}"""


def _made(facts: Metadata | None) -> str:
    action = f"[echoself-action]({ACTION_URL})"
    if facts is None:
        return f"published with\n{action}. Its training is not recorded."
    started = f"initialised from {code(str(facts.init_from))}" if facts.init_from else ""
    source = f"imported from {code(str(facts.imported_from))}" if facts.imported_from else started
    if not source:
        return f"trained and published with\n{action}."
    if facts.is_trained_here:
        return f"{source},\ntrained further and published with {action}."
    return f"{source}\nand published with {action}, without further training."


def limits(facts: Metadata | None) -> str:
    """Intended use and limits."""
    own = facts is not None and facts.imported_from is None and facts.init_from is None
    return _OWN_LIMITS if own else _OTHER_LIMITS


def use(repo_id: str, config: Any, architecture: Architecture, prompt: str = "The") -> str:
    """Code that loads the model and generates text after `prompt`."""
    new_tokens = min(50, config.block_size // 2)  # prompt and new tokens must fit into the context
    return f"""## How to use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo_id}")
model = AutoModelForCausalLM.from_pretrained("{repo_id}"{architecture.trust_argument})
ids = tokenizer({json.dumps(prompt, ensure_ascii=False)}, return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens={new_tokens}, do_sample=True)[0]))
```
"""


def results(facts: Metadata | None, parity: ParityFacts, history: Sequence[HistoryEntry], last: HistoryEntry | None) -> str:
    """Losses, the comparison with the model published before, the parity check, and the history."""
    rows = []
    if facts:
        best = f" (step {facts.best_step:,})" if facts.best_step else ""
        rows = [
            ("Bits per byte", number(last.bits_per_byte if last else facts.bits_per_byte)),
            ("Validation loss", number(facts.val_loss)),
            ("Perplexity per token", number(perplexity(facts.val_loss), 2)),
            ("Training loss", number(facts.train_loss)),
            ("Lowest validation loss", loss_text(facts.best_val_loss, facts.bytes_per_token) + best if best else ""),
        ]
    rows = [row for row in rows if row[1]]
    sections = [
        "## Results",
        table(("", ""), rows) if rows else "",
        "Bits per byte are comparable across tokenizers, and losses are in nats per token. They are measured on held-out "
        "documents, which are selected by a hash of their content."
        if facts and facts.val_loss is not None
        else ""
        if facts and facts.compared
        else "This model has not been evaluated by echoself-action.",
        compared(facts.compared) if facts and facts.compared else "",
        f"Before publishing, these files were loaded with stock transformers and compared with {_reference(facts)}:\n"
        f"{parity_text(parity)}.",
        _history(history),
    ]
    return "\n\n".join(part for part in sections if part)


def _reference(facts: Metadata | None) -> str:
    """What the logits of transformers were compared with."""
    if facts and facts.is_trained_here:
        return "the trained model"
    return "the computation of its original program" if facts and facts.parity else "the computation of this program"


def compared(facts: Comparison) -> str:
    """The comparison with the model that was published before."""
    difference = facts.candidate - facts.published
    ours, theirs = (
        "" if nats is None else f" ({nats:.4f} nats per token)" for nats in (facts.candidate_nats, facts.published_nats)
    )
    return f"""On the same held-out text, the loss of this model is {facts.candidate:.4f} {facts.unit}{ours}. The loss of the
model published before (commit `{facts.against[:12]}`) is {facts.published:.4f}{theirs}: a difference of {difference:+.4f}, 95
% CI {facts.low:+.4f} to {facts.high:+.4f} (paired bootstrap over {facts.windows} windows with {facts.tokens:,} tokens)."""


def history_table(history: Sequence[HistoryEntry]) -> str:
    """A table of the last publishes, newest first."""
    rows = [
        (
            f"{publish.published_at:%Y-%m-%d %H:%M}",
            f"{publish.step:,}",
            number(publish.bits_per_byte),
            number(publish.val_loss),
            number(perplexity(publish.val_loss), 2),
            f"{difference:+.4f}" if (difference := _difference(publish)) is not None else "",
            _minutes(publish.duration_s),
            number(publish.tokens_per_second, 0),
            _run(publish),
        )
        for publish in reversed(history[-_SHOWN:])
    ]
    head = ("published (UTC)", "step", "bits/byte", "nats/token", "perplexity", "change", "minutes", "tokens/s", "job")
    used = [column for column in range(len(head)) if any(row[column] for row in rows)]
    return table([head[column] for column in used], [[row[column] for column in used] for row in rows])


def training(facts: Metadata | None, folder: str | None = None) -> str:
    """Training data and hyperparameters. `folder`: the folder of the repo with the documents, or None if it has none."""
    if facts is None:
        return "## Training\n\nThe training data and hyperparameters are not recorded."
    data = facts.data
    documents = f" in {data.documents:,} documents" if data and data.documents else ""
    here = " since the import" if facts.imported_from else ""
    rows = [(label, escaped(text)) for label, text in origin_rows(facts)]
    if facts.is_import and facts.parity:
        rows.append(("Max absolute logit difference from its program", f"{facts.parity.max_abs_diff:.1e}"))
    rows += [
        ("Corpus", ", ".join(code(pattern) for pattern in data.patterns) if data else "not recorded"),
        ("Corpus size", f"{data.train_tokens:,} tokens{documents}, {data.val_tokens:,} held out" if data else ""),
        ("In both splits", leaks_text(data) if data else ""),
        ("Corpus digest", code(data.digest[:16]) if data else ""),
        ("Documents", _documents(facts.dataset, folder)),
        ("Steps", steps_text(facts)),
        ("Tokens seen", tokens_seen_text(facts)),
        ("Parameters", f"{facts.parameters:,}"),
        ("Tokenizer", f"{code(facts.tokenizer.name)}, {facts.tokenizer.vocab_size:,} entries"),
        *((label, escaped(text)) for label, text in training_settings(facts)),
        ("Training time", f"{facts.elapsed_s / 60:,.1f} minutes{here}" if facts.is_trained_here else ""),
        ("Training speed", f"{facts.tokens_per_second:,.0f} tokens/s" if facts.tokens_per_second else ""),
        (
            "Software" if facts.is_trained_here else "Imported with",
            ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        ),
    ]
    by_file = facts.is_import and training_settings(facts)
    source = "Batch size, learning rate and precision are those that the imported file records." if by_file else ""
    parts = ("## Training", table(("", ""), [row for row in rows if row[1]]), source)
    return "\n\n".join(part for part in parts if part)


def continue_training(repo_id: str, facts: Metadata | None, has_state: bool) -> str:
    """A workflow that trains it further. `has_state`: its training state is published too."""
    if facts and facts.tokenizer.name == IDS:
        return """## Continue training

The vocabulary of this model is unknown: its text consists of token ids, written as numbers. To train it further, import its
checkpoint again with the input `tokenizer`."""
    patterns = facts.data.patterns if facts and facts.data else ["**/*.md"]
    resumed = "resumes from the training state on the branch `training-state`"
    start = resumed if has_state else "starts from these weights with a new optimizer state"
    return f"""## Continue training

Use [echoself-action]({ACTION_URL}) in a workflow of the repository with the corpus.
It {start}, trains further, and publishes the model here if it is better.

```yaml
- uses: actions/checkout@v7
- uses: 9cog/echoself-action@v1
  with:
    mode: cycle
    repo_id: {repo_id}
    data: {json.dumps(",".join(patterns), ensure_ascii=False)}
    hf_token: ${{{{ secrets.HF_TOKEN }}}}
```
"""


def citation(repo_id: str, history: Sequence[HistoryEntry], facts: Metadata | None) -> str:
    """BibTeX. The author of a model that was only published here is not known."""
    owner, name = repo_id.split("/")
    author = f"\n  author = {{{owner}}}," if facts and facts.is_trained_here else ""
    year = f"\n  year = {{{history[-1].published_at.year}}}," if history else ""
    return f"""## Citation

```bibtex
@misc{{{owner}-{name},{author}
  title = {{{name}}},{year}
  howpublished = {{Hugging Face Hub, {repo_id}}}
}}
```
"""


def _history(history: Sequence[HistoryEntry]) -> str:
    if not history:
        return ""
    picture = f"\n\n![Validation loss over the publishes]({CHART_FILE})" if has_trend(history) else ""
    more = f" (showing the last {_SHOWN} of {len(history)})" if len(history) > _SHOWN else ""
    head = f"### History{picture}\n\nEach publish adds a line to [{HISTORY_FILE}]({HISTORY_FILE}){more}:"
    return f"{head}\n\n{history_table(history)}"


def _documents(dataset: DatasetFacts | None, folder: str | None) -> str:
    """Where the documents are published."""
    if folder:
        return f"in {code(f'{folder}/')} of this repo"
    return f"dataset {code(dataset.repo_id)} at commit {code(dataset.commit)}" if dataset else ""


def _difference(publish: HistoryEntry) -> float | None:
    """The change from the model published before, in bits per byte."""
    if publish.compared is None:
        return None
    found = publish.compared.candidate - publish.compared.published
    if publish.compared.unit == BITS_PER_BYTE:
        return found
    bits, nats = publish.bits_per_byte, publish.val_loss  # of an earlier version, which compared in nats per token
    return found * bits / nats if bits and nats else None


def _minutes(seconds: float | None) -> str:
    return number(seconds / 60, 1) if seconds else ""


def _run(publish: HistoryEntry) -> str:
    """The commit of the job, linked to it if its URL is safe in a Markdown link."""
    name = code(publish.commit[:7]) if publish.commit else "a job" if publish.run_url else ""
    safe = publish.run_url and publish.run_url.startswith("https://") and not set(publish.run_url) & set(" ()<>|\n\"'")
    return f"[{name}]({publish.run_url})" if safe and name else name
