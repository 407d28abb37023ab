"""Time and memory for converting a nanoGPT checkpoint of GPT-2 small to a model folder, by us and by PyTorch with transformers.

    python benchmarks/import_nanogpt.py [--rounds 3] [--layers 12]

The file is what nanoGPT's train.py saves for 124M parameters (vocabulary 50304, no biases, with optimizer state: 1.5 GB),
filled with random numbers. Each way runs as whole processes that take turns: wall time with all imports, processor time
(user and system), and peak resident memory. "conversion" is ours without the parity check; "weights alone" leaves out the
optimizer state, too; "with parity" is the whole import. "theirs" is torch.load, GPT2LMHeadModel, save_pretrained: the weights
alone, unchecked and not synced.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import torch
from common import results
from common.results import Figures, spread

_CONVERSION = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from echoself_action.checkpoint.atomic import new_folder
from echoself_action.formats.nanogpt import read as read_nanogpt
from echoself_action.formats.torch_file.reader import read_torch_file
from echoself_action.checkpoint.weights import write_model
from echoself_action.formats.import_checkpoint import _state
from echoself_action.training.training_state import write_moments, write_state
foreign = read_torch_file(Path(sys.argv[1]))
source = read_nanogpt(foreign)
with new_folder(Path(sys.argv[2])) as folder, ThreadPoolExecutor(1) as beside:
    written = beside.submit(write_moments, folder, source.moments, foreign.archive.release) if len(sys.argv) == 3 else None
    digest = write_model(folder, source.config, source.weights, 50256, foreign.archive.release)
    if written:
        written.result()
        write_state(folder, _state(source, digest))
"""
WAYS = {
    "weights alone": f"import sys; sys.argv.append('weights alone'){_CONVERSION}",
    "conversion": _CONVERSION,
    "with parity": """
import sys
from pathlib import Path
from echoself_action.formats.import_checkpoint import import_checkpoint
import_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), "bytes", print)
""",
    "theirs": """
import sys
import torch
from transformers import GPT2Config, GPT2LMHeadModel
content = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
args = content["model_args"]
config = GPT2Config(vocab_size=args["vocab_size"], n_positions=args["block_size"], n_embd=args["n_embd"],
                    n_layer=args["n_layer"], n_head=args["n_head"], activation_function="gelu")
model = GPT2LMHeadModel(config)
turned = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
state = {name: tensor.t() if name.endswith(turned) else tensor for name, tensor in content["model"].items()}
biases = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items() if name.endswith(".bias")}
model.load_state_dict(biases | state)
model.save_pretrained(sys.argv[2])
""",
}


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12)
    given = parser.parse_args()
    figures = Figures(given)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # in a process of its own: a child's peak memory begins with what its parent has
        writer = get_context("spawn").Process(target=write_checkpoint, args=(work / "ckpt.pt", given.layers))
        writer.start()
        writer.join()
        print(f"ckpt.pt has {(work / 'ckpt.pt').stat().st_size / 1e9:.2f} GB")
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WAYS}
        for number in range(given.rounds):
            for name in WAYS:
                taken[name].append(measured(name, work / "ckpt.pt", work / f"{name}-{number}"))
        base = [statistics.median(values) for values in zip(*taken["theirs"], strict=True)]
        for name, rows in taken.items():
            seconds, processor, memory = zip(*rows, strict=True)
            medians = (statistics.median(values) for values in (seconds, processor, memory))
            ratios = ", ".join(f"{ours / his:.2f}" for ours, his in zip(medians, base, strict=True))
            print(
                f"{name:13} {spread(seconds, '6.2f')} s, processor {statistics.median(processor):5.2f} s, "
                f"{statistics.median(memory) / 1e9:.2f} GB; of theirs: {ratios}"
            )
            figures.add("by the clock, s", name, *seconds)
            figures.add("processor time, s", name, *processor)
            figures.add("peak memory, GB", name, *(bytes_ / 1e9 for bytes_ in memory))
    figures.write()


_TELL = """
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
print("used", used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""


def measured(name: str, checkpoint: Path, output: Path) -> tuple[float, float, float]:
    """Wall time and processor time in s, peak resident memory in bytes, of one process."""
    command = [sys.executable, "-c", WAYS[name] + _TELL, str(checkpoint), str(output)]
    began = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.monotonic() - began
    subprocess.run(["rm", "-rf", str(output)], check=True)
    processor, memory = done.stdout.rpartition("used ")[2].split()
    return seconds, float(processor), float(memory)


def write_checkpoint(path: Path, n_layer: int) -> None:
    width, block, vocabulary = 768, 1024, 50304
    model = {"transformer.wte.weight": torch.randn(vocabulary, width), "transformer.wpe.weight": torch.randn(block, width)}
    for i in range(n_layer):
        one = f"transformer.h.{i}"
        model |= {f"{one}.ln_1.weight": torch.ones(width), f"{one}.attn.c_attn.weight": torch.randn(3 * width, width)}
        model |= {f"{one}.attn.c_proj.weight": torch.randn(width, width), f"{one}.ln_2.weight": torch.ones(width)}
        model |= {f"{one}.mlp.c_fc.weight": torch.randn(4 * width, width)}
        model |= {f"{one}.mlp.c_proj.weight": torch.randn(width, 4 * width)}
    model = {name: 0.02 * tensor for name, tensor in (model | {"transformer.ln_f.weight": torch.ones(width)}).items()}
    groups: list[list[torch.Tensor]] = [[t for t in model.values() if t.dim() > 1], [t for t in model.values() if t.dim() < 2]]
    optimizer = torch.optim.AdamW([{"params": groups[0], "weight_decay": 0.1}, {"params": groups[1], "weight_decay": 0.0}])
    for tensor in model.values():
        tensor.grad = 1e-3 * torch.randn_like(tensor)
    optimizer.step()
    sizes = {"n_layer": n_layer, "n_head": 12, "n_embd": width, "block_size": block, "bias": False, "vocab_size": vocabulary}
    for tensor in model.values():
        tensor.grad = None
    content = {
        "model": model | {"lm_head.weight": model["transformer.wte.weight"]},
        "optimizer": optimizer.state_dict(),
        "model_args": sizes | {"dropout": 0.0},
        "iter_num": 1,
        "best_val_loss": torch.tensor(9.0),
        "config": {"batch_size": 12, "learning_rate": 6e-4},
    }
    torch.save(content, path)


if __name__ == "__main__":
    main()
