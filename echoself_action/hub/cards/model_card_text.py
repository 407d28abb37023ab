"""The parts of the model card, each from facts alone: Markdown for people."""

import json
from collections.abc import Sequence
from typing import Any

from ...checkpoint.architectures import Architecture
from ...checkpoint.metadata import Comparison, DatasetFacts, Metadata, ParityFacts, in_words
from ...markdown import code, number, table
from ..history import Publish
from ..repo import CHART_FILE, HISTORY_FILE
from .history_chart import has_trend, perplexity

ACTION_URL = "https://github.com/9cog/echoself-action"
_SHOWN = 10  # publishes in the table; the file has them all

LIMITS = """## Intended use and limits

To write text in the manner of its corpus, to study how a small model learns, and to go on training it. It is no assistant.

This is a small model of one corpus. It repeats what is in that corpus, its errors and biases included, states things that
are not true, and has not been tuned to follow instructions or to be safe. Don't rely on its text for decisions.
"""


def about(config: Any, architecture: Architecture) -> str:
    """What it is, with what its architecture has to say."""
    name = architecture.display_name
    return f"""A {name} language model with {config.n_layer} layers, {config.n_head} heads, width {config.n_embd}, a context of
{config.block_size} tokens and a vocabulary of {config.vocab_size}. It was trained and published by
[echoself-action]({ACTION_URL}).
{architecture.config.card_text(config)}"""


def use(repo_id: str, config: Any, architecture: Architecture) -> str:
    """A snippet that runs."""
    new_tokens = min(50, config.block_size // 2)  # the context has no room for more than a block
    return f"""## How to use it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo_id}")
model = AutoModelForCausalLM.from_pretrained("{repo_id}"{architecture.trust_argument})
ids = tokenizer("The", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens={new_tokens}, do_sample=True)[0]))
```
"""


def results(facts: Metadata | None, parity: ParityFacts, history: Sequence[Publish], last: Publish | None) -> str:
    """How good it is, how good the ones before it were, and that it is the model that was trained."""
    rows = []
    if facts:
        best = f" (step {facts.best_step:,})" if facts.best_step else ""
        rows = [
            ("Validation loss", number(facts.val_loss)),
            ("Perplexity per token", number(perplexity(facts.val_loss), 2)),
            ("Bits per byte", number(last.bits_per_byte if last else None)),
            ("Training loss", number(facts.train_loss)),
            ("Lowest validation loss", number(facts.best_val_loss) + best),
        ]
    sections = [
        "## Results",
        table(("", ""), [row for row in rows if row[1]]) if rows else "",
        "Losses are in nats per token, on documents that are held out by a hash of their content." if rows else "",
        compared(facts.compared) if facts and facts.compared else "",
        "Before it was published, these files were loaded with stock transformers and compared with the model that was "
        "trained:\n"
        f"{in_words(parity)}.",
        _history(history),
    ]
    return "\n\n".join(part for part in sections if part)


def compared(facts: Comparison) -> str:
    """One model beside the one that was published before."""
    difference = facts.candidate - facts.published
    return f"""On the same held-out text its loss is {facts.candidate:.4f} {facts.unit}, and that of the model which was
published before (commit `{facts.against[:12]}`) {facts.published:.4f}: a difference of {difference:+.4f}, with a 95% interval
of {facts.low:+.4f} to {facts.high:+.4f} (paired bootstrap over {facts.windows} windows with {facts.tokens:,} tokens)."""


def history_table(history: Sequence[Publish]) -> str:
    """The last publishes, the newest first."""
    rows = [
        (
            f"{publish.published_at:%Y-%m-%d %H:%M}",
            f"{publish.step:,}",
            number(publish.val_loss),
            number(perplexity(publish.val_loss), 2),
            number(publish.bits_per_byte),
            f"{difference:+.4f}" if (difference := _difference(publish)) is not None else "",
            _minutes(publish.duration_s),
            number(publish.tokens_per_second, 0),
            _run(publish),
        )
        for publish in reversed(history[-_SHOWN:])
    ]
    head = ("published (UTC)", "step", "val. loss", "perplexity", "bits/byte", "change", "minutes", "tokens/s", "trained from")
    used = [column for column in range(len(head)) if any(row[column] for row in rows)]
    return table([head[column] for column in used], [[row[column] for column in used] for row in rows])


def training(facts: Metadata | None, folder: str | None = None) -> str:
    """The data and the procedure; `folder` is where in the repo the documents are, None where they are not in it."""
    if facts is None:
        return "## How it was trained\n\nThat is not recorded."
    data, settings, origin = facts.data, facts.settings, facts.imported_from
    documents = f" in {data.documents:,} documents" if data and data.documents else ""
    rows = [
        ("Corpus", ", ".join(code(pattern) for pattern in data.patterns) if data else "unknown"),
        ("Its size", f"{data.train_tokens:,} tokens{documents}, {data.val_tokens:,} held out" if data else ""),
        ("Its digest", code(data.digest[:16]) if data else ""),
        ("Its documents", _documents(facts.dataset, folder)),
        ("Steps", f"{facts.step:,}"),
        ("Tokens seen", f"{facts.tokens_seen:,}"),
        ("Parameters", f"{facts.parameters:,}"),
        ("Tokenizer", f"{code(facts.tokenizer.name)}, {facts.tokenizer.vocab_size:,} entries"),
        ("Sequences a step", f"{settings.get('batch_size')} x {settings.get('gradient_accumulation')}"),
        ("Peak learning rate", f"{settings.get('learning_rate')}"),
        ("Computed in", f"{settings.get('computed_in')}" + (f", on {facts.device}" if facts.device else "")),
        ("Time", f"{facts.elapsed_s / 60:,.1f} minutes"),
        ("Software", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
    ]
    if origin:
        differ = f"; logits differ from its own by {facts.parity.max_abs_diff:.1e}" if facts.parity else ""
        rows.append(("Imported from", f"a {origin.layout} checkpoint{differ}"))
        rows += [("Note", remark) for remark in origin.remarks]
    return f"## How it was trained\n\n{table(('', ''), [row for row in rows if row[1]])}"


def going_on(repo_id: str, facts: Metadata | None) -> str:
    """A workflow that makes it better."""
    patterns = facts.data.patterns if facts and facts.data else ["**/*.md"]
    return f"""## How to go on training it

With [echoself-action]({ACTION_URL}), in a workflow of the repository that has the corpus: it takes up the training state on
the branch `training-state`, trains on, and publishes the model here where it has become better.

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


def citation(repo_id: str, history: Sequence[Publish]) -> str:
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


def _history(history: Sequence[Publish]) -> str:
    if not history:
        return ""
    picture = f"\n\n![Validation loss over the publishes]({CHART_FILE})" if has_trend(history) else ""
    more = f", the last {_SHOWN} of {len(history)}" if len(history) > _SHOWN else ""
    head = f"### History{picture}\n\nEvery publish has a line in [{HISTORY_FILE}]({HISTORY_FILE}){more}:"
    return f"{head}\n\n{history_table(history)}"


def _documents(dataset: DatasetFacts | None, folder: str | None) -> str:
    """Where they can be had."""
    if folder:
        return f"in {code(f'{folder}/')} of this repo"
    return f"dataset {code(dataset.repo_id)} at commit {code(dataset.commit)}" if dataset else ""


def _difference(publish: Publish) -> float | None:
    return publish.compared.candidate - publish.compared.published if publish.compared else None


def _minutes(seconds: float | None) -> str:
    return number(seconds / 60, 1) if seconds else ""


def _run(publish: Publish) -> str:
    """The commit that it was trained from, with a link to the job where that is one that a link can hold."""
    name = code(publish.commit[:7]) if publish.commit else "a job" if publish.run_url else ""
    safe = publish.run_url and publish.run_url.startswith("https://") and not set(publish.run_url) & set(" ()<>|\n\"'")
    return f"[{name}]({publish.run_url})" if safe and name else name
