"""A GPT-2-small nanoGPT checkpoint made a model folder, by us and by PyTorch with transformers: time and memory.

    python benchmarks/import_nanogpt.py [--rounds 3] [--layers 12]

The file is what nanoGPT's train.py saves for 124M parameters (vocabulary 50304, no biases, with optimizer state: 1.5 GB),
filled with random numbers. Each way runs as whole processes that take turns: wall time with all imports, and peak resident
memory. "conversion" is ours without the parity check; "weights alone" leaves out the optimizer state, too; "with parity" is
the whole import. "theirs" is torch.load, GPT2LMHeadModel, save_pretrained: the weights alone, and unchecked.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import torch

_CONVERSION = """
import sys
from pathlib import Path
from echoself_action.checkpoint.atomic import new_folder
from echoself_action.checkpoint.folder import write_model
from echoself_action.checkpoint.foreign.nanogpt import read_nanogpt
from echoself_action.checkpoint.foreign.reader import read_foreign
from echoself_action.training.imports import _state
from echoself_action.training.state import write_state
foreign = read_foreign(Path(sys.argv[1]))
source = read_nanogpt(foreign)
with new_folder(Path(sys.argv[2])) as folder:
    digest = write_model(folder, source.config, source.weights, 50256, foreign.archive.release)
    if len(sys.argv) == 3:
        write_state(folder, _state(source, digest), source.moments, foreign.archive.release)
"""
WAYS = {
    "weights alone": f"import sys; sys.argv.append('weights alone'){_CONVERSION}",
    "conversion": _CONVERSION,
    "with parity": """
import sys
from pathlib import Path
from echoself_action.training.imports import import_checkpoint
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # in a process of its own: a child's peak memory begins with what its parent has
        writer = get_context("spawn").Process(target=write_checkpoint, args=(work / "ckpt.pt", given.layers))
        writer.start()
        writer.join()
        print(f"ckpt.pt has {(work / 'ckpt.pt').stat().st_size / 1e9:.2f} GB")
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for number in range(given.rounds):
            for name in WAYS:
                figures[name].append(measured(name, work / "ckpt.pt", work / f"{name}-{number}"))
        base = [statistics.median(values) for values in zip(*figures["theirs"], strict=True)]
        for name, pairs in figures.items():
            seconds, memory = (statistics.median(values) for values in zip(*pairs, strict=True))
            spread = f"{min(pairs)[0]:.1f} to {max(pairs)[0]:.1f}"
            print(
                f"{name:13} {seconds:6.2f} s ({spread}), {memory / 1e9:5.2f} GB: "
                f"{seconds / base[0]:.2f} of their time, {memory / base[1]:.2f} of their memory"
            )


def measured(name: str, checkpoint: Path, output: Path) -> tuple[float, float]:
    """Wall time in s, peak resident memory in bytes, of one process."""
    code = f"{WAYS[name]}\nimport resource\nprint('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), str(output)], check=True, capture_output=True, text=True
    )
    seconds = time.monotonic() - began
    subprocess.run(["rm", "-rf", str(output)], check=True)
    return seconds, float(done.stdout.rpartition("peak ")[2])


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
