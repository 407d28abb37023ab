"""The card of a dataset repo: front matter for the Hub's viewer and `datasets`, and a description.

It does not mention the models trained on it: there may be several, and each model card names the commit of its dataset.
"""

from collections.abc import Mapping

import huggingface_hub

from ...corpus.parquet_dataset import Dataset, Split, SplitSize
from ...markdown import table
from ..dataset_repo import DATA_FOLDER
from .model_card import CardChoices
from .model_card_text import ACTION_URL
from .sections import filled, section, with_front_matter

_PART = "documents"
_FEATURES = {"text": "string", "source": "string", "position": "int64"}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")


def dataset_card(repo_id: str, dataset: Dataset, choices: CardChoices, kept: str | None = None) -> str:
    """The README.md. `kept` is a card of which only the front matter and the marked section are replaced."""
    front = _front_matter(repo_id, dataset, choices)
    part = _documents(repo_id, dataset.splits)
    if kept is None:
        return with_front_matter(f"# {repo_id.split('/')[-1]}\n\n{section(_PART, part)}\n", front, ())
    generated = ("configs", "dataset_info", "size_categories")
    return with_front_matter(filled(kept, {_PART: part}), front, (*generated, *choices.decided))


def _front_matter(repo_id: str, dataset: Dataset, choices: CardChoices) -> dict[str, object]:
    rows = sum(size.rows for size in dataset.splits.values())
    data = huggingface_hub.DatasetCardData(
        **choices.front_matter,  # type: ignore[arg-type]
        pretty_name=repo_id.split("/")[-1],
        task_categories=["text-generation"],
        size_categories=[_SIZES[min(max(len(str(rows)) - 3, 0), len(_SIZES) - 1)]],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{DATA_FOLDER}/{split}*.parquet"} for split in dataset.splits],
            }
        ],
        dataset_info={
            "features": [{"name": name, "dtype": dtype} for name, dtype in _FEATURES.items()],
            "splits": [
                {"name": split, "num_bytes": size.bytes, "num_examples": size.rows} for split, size in dataset.splits.items()
            ],
            "download_size": sum(path.stat().st_size for path in dataset.files.values()),
            "dataset_size": sum(size.bytes for size in dataset.splits.values()),
        },
    )
    data["tags"] = ["echoself-action"]
    return {key: value for key, value in data.to_dict().items() if value is not None}  # type: ignore[no-untyped-call]


def _documents(repo_id: str, splits: Mapping[Split, SplitSize]) -> str:
    rows = [(split, f"{size.rows:,}", f"{size.bytes:,}") for split, size in splits.items()]
    return f"""Documents of a repository, in the form in which [echoself-action]({ACTION_URL}) trains language models on them.

{table(("split", "documents", "bytes"), rows)}

Documents are assigned to the train or validation split by a hash of their text, so a document is in the same split in every
commit of this dataset. The card of a model trained on this dataset names the commit: pass it as `revision` to load the same
documents. Documents are published whole: paragraphs of the train split that are in the validation split too were left out of
training.

```python
from datasets import load_dataset

documents = load_dataset("{repo_id}")
```

- `text`: the document, which is a record of a file or a chunk of a text file
- `source`: the path of that file
- `position`: the number of the chunk, line or record in the file, starting at 1. Sorted by `source` and `position`, the chunks
  of a text file add up to the file.
"""
