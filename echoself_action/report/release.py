"""The text of a release: what the model is like, and where it lies."""

import math

from ..checkpoint.folder import ModelFolder


def release_text(repo_url: str, tag: str, commit_url: str, model: ModelFolder, gate: str) -> str:
    """Markdown, with a link to the commit on the Hub."""
    facts = model.metadata
    rows = [("step", f"{model.step:,}"), ("architecture", model.architecture)]
    if facts:
        if facts.val_loss is not None:
            rows.append(
                ("validation loss", f"{facts.val_loss:.4f} nats per token (perplexity {math.exp(facts.val_loss):,.2f})")
            )
        if facts.train_loss is not None:
            rows.append(("training loss", f"{facts.train_loss:.4f} nats per token"))
        rows += [("parameters", f"{facts.parameters:,}"), ("tokens seen", f"{facts.tokens_seen:,}")]
        rows.append(("tokenizer", facts.tokenizer.name))
    repo_id = "/".join(repo_url.split("/")[-2:])
    trust = "" if model.architecture == "gpt2" else ", trust_remote_code=True"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"[{repo_id}]({repo_url}) at [{commit_url.rpartition('/')[2][:12]}]({commit_url}), tagged `{tag}` there too.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"Gate: {gate}.\n\n"
        "```python\nfrom transformers import AutoModelForCausalLM\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{repo_id}", revision="{tag}"{trust})\n```\n'
    )
