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
from ...markdown import code, number, table
from ..history import HistoryEntry
from ..repo import CHART_FILE, HISTORY_FILE
from .history_chart import has_trend, perplexity

ACTION_URL = "https://github.com/9cog/echoself-action"
_SHOWN = 10  # publishes in the table; the file has all of them

LIMITS = """## Intended use and limits

This model is intended for generating text in the style of its training corpus, for studying how small models learn, and for
further training.

This is a base language model: it continues text and does not follow instructions. It is small and was trained on a single
corpus, so it reproduces the errors and biases of that corpus and generates false statements. It has not been fine-tuned for
safety. Do not base decisions on its output.
"""


def about(config: Any, architecture: Architecture) -> str:
    """Architecture and sizes, with the notes of the architecture."""
    name = architecture.display_name
    return f"""A {name} language model with {config.n_layer} layers, {config.n_head} heads, width {config.n_embd}, a context of
{config.block_size} tokens and a vocabulary of {config.vocab_size} tokens, trained and published with
[echoself-action]({ACTION_URL}).
{architecture.config.card_text(config)}"""


def use(repo_id: str, config: Any, architecture: Architecture) -> str:
    """Code that loads the model and generates text."""
    new_tokens = min(50, config.block_size // 2)  # prompt and new tokens must fit into the context
    return f"""## How to use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo_id}")
model = AutoModelForCausalLM.from_pretrained("{repo_id}"{architecture.trust_argument})
ids = tokenizer("The", return_tensors="pt").input_ids
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
    sections = [
        "## Results",
        table(("", ""), [row for row in rows if row[1]]) if rows else "",
        "Bits per byte are comparable across tokenizers, and losses are in nats per token. They are measured on held-out "
        "documents, which are selected by a hash of their content."
        if rows
        else "",
        compared(facts.compared) if facts and facts.compared else "",
        "Before publishing, these files were loaded with stock transformers and compared with the trained model:\n"
        f"{parity_text(parity)}.",
        _history(history),
    ]
    return "\n\n".join(part for part in sections if part)


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
    head = ("published (UTC)", "step", "bits/byte", "nats/token", "perplexity", "change", "minutes", "tokens/s", "trained from")
    used = [column for column in range(len(head)) if any(row[column] for row in rows)]
    return table([head[column] for column in used], [[row[column] for column in used] for row in rows])


def training(facts: Metadata | None, folder: str | None = None) -> str:
    """Training data and hyperparameters. `folder`: the folder of the repo with the documents, or None if it has none."""
    if facts is None:
        return "## Training\n\nThe training data and hyperparameters are not recorded."
    data, settings, origin = facts.data, facts.settings, facts.imported_from
    documents = f" in {data.documents:,} documents" if data and data.documents else ""
    start = facts.init_from
    rows = [
        ("Started from", code(str(start)) if start else ""),
        ("Corpus", ", ".join(code(pattern) for pattern in data.patterns) if data else "unknown"),
        ("Corpus size", f"{data.train_tokens:,} tokens{documents}, {data.val_tokens:,} held out" if data else ""),
        ("In both splits", leaks_text(data) if data else ""),
        ("Corpus digest", code(data.digest[:16]) if data else ""),
        ("Documents", _documents(facts.dataset, folder)),
        ("Steps", f"{facts.step:,}"),
        ("Tokens seen", f"{facts.tokens_seen:,}"),
        ("Parameters", f"{facts.parameters:,}"),
        ("Tokenizer", f"{code(facts.tokenizer.name)}, {facts.tokenizer.vocab_size:,} entries"),
        (
            "Batch size",
            f"{settings.get('batch_size')} sequences x {settings.get('gradient_accumulation')} gradient accumulation steps",
        ),
        ("Peak learning rate", f"{settings.get('learning_rate')}"),
        ("Precision", f"{settings.get('computed_in')}" + (f", on {facts.device}" if facts.device else "")),
        ("Training time", f"{facts.elapsed_s / 60:,.1f} minutes"),
        ("Training speed", f"{facts.tokens_per_second:,.0f} tokens/s" if facts.tokens_per_second else ""),
        ("Software", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
    ]
    rows += [("Note", remark) for remark in (start.remarks if start else ())]
    if origin:
        differ = f"; max absolute logit difference {facts.parity.max_abs_diff:.1e}" if facts.parity else ""
        rows.append(("Imported from", f"a {origin.layout} checkpoint{differ}"))
        rows += [("Note", remark) for remark in origin.remarks]
    return f"## Training\n\n{table(('', ''), [row for row in rows if row[1]])}"


def continue_training(repo_id: str, facts: Metadata | None) -> str:
    """A workflow that trains it further."""
    patterns = facts.data.patterns if facts and facts.data else ["**/*.md"]
    return f"""## Continue training

Use [echoself-action]({ACTION_URL}) in a workflow of the repository with the corpus. It resumes from the training state on the
branch `training-state`, trains further, and publishes the model here if it is better.

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


def citation(repo_id: str, history: Sequence[HistoryEntry]) -> str:
    """BibTeX."""
    owner, name = repo_id.split("/")
    year = f"\n  year = {{{history[-1].published_at.year}}}," if history else ""
    return f"""## Citation

```bibtex
@misc{{{owner}-{name},
  author = {{{owner}}},
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
    """The commit of the training code and text, linked to the job if its URL is safe in a Markdown link."""
    name = code(publish.commit[:7]) if publish.commit else "a job" if publish.run_url else ""
    safe = publish.run_url and publish.run_url.startswith("https://") and not set(publish.run_url) & set(" ()<>|\n\"'")
    return f"[{name}]({publish.run_url})" if safe and name else name
