"""The model card, written from the facts in training_metadata.json through huggingface_hub's card classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..checkpoint.folder import ModelFolder
from ..checkpoint.metadata import Comparison, Metadata, ParityFacts
from ..checkpoint.parity import in_words

# A card on the Hub without this line was written or edited by a person, and is left alone.
MARKER = "<!-- Written by echoself-action at every publish. Delete this line to keep your own text. -->"
ACTION_URL = "https://github.com/9cog/echoself-action"


@dataclass(frozen=True)
class CardChoices:
    """What the card can't know from the model. `license` and `language` as the Hub names them."""

    license: str | None = None
    language: Sequence[str] = ()


def model_card(repo_id: str, folder: ModelFolder, parity: ParityFacts, choices: CardChoices) -> str:
    """The README.md of the repo: front matter that the Hub reads, and text for people."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    facts = folder.metadata
    name = repo_id.split("/")[-1]
    results = None
    if facts and facts.data and facts.val_loss is not None:
        results = [
            EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type="held-out-documents",
                dataset_name="Held-out documents of the training corpus",
                dataset_args={"digest": facts.data.digest},
                metric_type="loss",
                metric_name="Validation loss (nats per token)",
                metric_value=round(facts.val_loss, 6),
            )
        ]
    data = ModelCardData(
        language=list(choices.language) or None,
        license=choices.license,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[folder.architecture, "echoself-action"],
        model_name=name,
        eval_results=results,
    )
    trained = _training(facts) if facts else "How this model was trained is not recorded.\n"
    text = _TEMPLATE.format(
        front_matter=data.to_yaml(),
        marker=MARKER,
        name=name,
        repo_id=repo_id,
        config=folder.config,
        kind="GPT-2" if folder.architecture == "gpt2" else "NanEcho",
        about=_about_nanecho(folder.config) if folder.architecture == "nanecho" else "",
        trust="" if folder.architecture == "gpt2" else ", trust_remote_code=True",
        trained=trained,
        compared=_compared(facts.compared) if facts and facts.compared else "",
        action=ACTION_URL,
        new_tokens=min(50, folder.config.block_size // 2),  # the context has no room for more than a block
        parity=in_words((facts and facts.parity) or parity),
    )
    return str(ModelCard(text))


def is_ours(card: str | None) -> bool:
    """Whether a card on the Hub may be replaced: there is none, or we wrote it."""
    return card is None or MARKER in card


_TEMPLATE = """---
{front_matter}
---

{marker}

# {name}

A {kind} language model with {config.n_layer} layers, {config.n_head} heads, width {config.n_embd}, a context of
{config.block_size} tokens and a vocabulary of {config.vocab_size}. It was trained and published by
[echoself-action]({action}).
{about}
## How to use it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo_id}")
model = AutoModelForCausalLM.from_pretrained("{repo_id}"{trust})
ids = tokenizer("The", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens={new_tokens}, do_sample=True)[0]))
```

## How it was trained

{trained}
{compared}Before it was published, these files were loaded with stock transformers and compared with the model that was trained:
{parity}.

## Limits

This is a small model of one corpus. It repeats what is in that corpus, its errors and biases included, states things that
are not true, and has not been tuned to follow instructions or to be safe. Don't rely on its text for decisions.
"""


def _compared(facts: Comparison) -> str:
    difference = facts.candidate - facts.published
    return f"""On the same held-out text its loss is {facts.candidate:.4f} {facts.unit}, and that of the model which was
published before (commit `{facts.against[:12]}`) {facts.published:.4f}: a difference of {difference:+.4f}, with a 95% interval
of {facts.low:+.4f} to {facts.high:+.4f} (paired bootstrap over {facts.windows} windows with {facts.tokens:,} tokens).

"""


def _about_nanecho(config: Any) -> str:
    """What a reader has to know of this architecture: that its code is run, and what it computes."""
    depth = f"recursive reasoning, {config.recursion_depth} deep at step {config.current_iteration}"
    parts = {
        "adaptive attention": config.enable_adaptive_attention,
        f"persona dimensions ({', '.join(config.persona_dimensions)})": config.enable_persona_dimensions,
        depth: config.enable_recursive_reasoning,
        "hypergraph patterns": config.enable_hypergraph_patterns,
    }
    text = f"""
NanEcho is no architecture of transformers: the model comes with its code, `modeling_nanecho.py`, and loading it needs
`trust_remote_code=True`, which runs that file. Read it first; it imports torch and transformers alone.

It has {", ".join(name for name, on in parts.items() if on) or "none of its extras"}.
"""
    if config.legacy:
        text += """
**It keeps the arithmetic of the program that trained it** (`legacy: true`): it is not causal, so its logits depend on later
tokens, and it was trained to predict the token after the next one. Its text is worse than its loss.
"""
    return text


def _training(facts: Metadata) -> str:
    data, settings, origin = facts.data, facts.settings, facts.imported_from
    rows = [
        ("Steps", f"{facts.step:,}"),
        ("Tokens seen", f"{facts.tokens_seen:,}"),
        ("Parameters", f"{facts.parameters:,}"),
        ("Training loss", _loss(facts.train_loss)),
        ("Validation loss", _loss(facts.val_loss)),
        (
            "Lowest validation loss",
            f"{_loss(facts.best_val_loss)} (step {facts.best_step})" if facts.best_step else "none",
        ),
        (
            "Corpus",
            f"{data.train_tokens:,} tokens, {data.val_tokens:,} held out, digest `{data.digest[:16]}`" if data else "unknown",
        ),
        ("Tokenizer", f"`{facts.tokenizer.name}`, {facts.tokenizer.vocab_size:,} entries"),
        ("Sequences a step", f"{settings.get('batch_size')} x {settings.get('gradient_accumulation')}"),
        ("Peak learning rate", f"{settings.get('learning_rate')}"),
        ("Computed in", f"{settings.get('computed_in')}"),
        ("Software", ", ".join(f"{name} {number}" for name, number in facts.versions.items())),
    ]
    if origin:
        differ = f"; logits differ from its own by {facts.parity.max_abs_diff:.1e}" if facts.parity else ""
        rows.append(("Imported from", f"a {origin.layout} checkpoint{differ}"))
        rows += [("Note", remark) for remark in origin.remarks]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n\nLosses are in nats per token. Documents are held out by a hash of their content.\n"


def _loss(value: float | None) -> str:
    return "not evaluated" if value is None else f"{value:.4f}"
