"""Two concurrent deploys to a local Hub, many times: exactly the expected commits, and no lost update.

    python tests/stress/race.py [--rounds 50]

A round is one repo and two processes that call the command line at the same moment. In turn: the same model twice (one commit);
two models, both better than the published one; and the same two to an empty repo (the best one remains, in whichever order).
Each commit must belong to a deploy that printed `deployed=true`, with its line in the history, and the training state must be
that of the model that remained.
"""

import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing.synchronize import Barrier
from pathlib import Path

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from common import results
from common.results import Figures
from huggingface_hub import HfApi
from localhub import LocalHub

STEPS = {"base": 10, "better": 40, "best": 90}
SHAPE = "--n-layer 1 --n-head 2 --n-embd 16 --block-size 32 --batch-size 4 --eval-interval 10 --device cpu --tokenizer bytes"
SHAPE += " --preset ci --learning-rate 1e-3"  # slow enough for the last step to be the best
KINDS = (("same", "best", "best"), ("onto a model", "better", "best"), ("first publish", "best", "better"))
FORKED = multiprocessing.get_context("forkserver")  # by a process that has loaded what a deploy needs
FORKED.set_forkserver_preload(
    ["echoself_action.modes.deploy", "echoself_action.evaluation.parity", "transformers.models.gpt2.modeling_gpt2"]
)


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args()
    figures, rounds = Figures(given), given.rounds
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        prepare()
        with LocalHub(Path("hub")) as hub:
            echoself(f"deploy --hub {hub.url} --repo-id me/base --output-dir base")
            barrier, queue = FORKED.Barrier(2), FORKED.Queue()
            racers = [FORKED.Process(target=race, args=(who, rounds, hub.url, barrier, queue)) for who in (0, 1)]
            for racer in racers:
                racer.start()
            ended = dict(queue.get(timeout=3600) for _ in range(2 * rounds))
            problems: list[str] = []
            seen: Counter[str] = Counter()
            for number in range(rounds):
                pair = [ended[number, who] for who in (0, 1)]
                seen[f"{KINDS[number % 3][0]}: exit codes {sorted(code for code, _ in pair)}"] += 1
                problems += [f"round {number}: {output}" for output in judge(HfApi(hub.url, token=False), number, pair)]
            for racer in racers:
                racer.join()
    seconds = time.monotonic() - start
    print(f"{rounds} rounds in {seconds:.0f} s; {len(problems)} problems")
    print("\n".join([*(f"  {kind}: {count}" for kind, count in sorted(seen.items())), *problems]))
    for kind, count in sorted(seen.items()):
        figures.add("rounds", kind, count)
    figures.add("problems", "all rounds", len(problems))
    figures.add("all rounds, s", "two processes", seconds)
    figures.write()
    sys.exit(bool(problems))


def prepare() -> None:
    """Text, three models, and what a racer deploys: a copy of its own, for a deploy writes its figures into the folder."""
    Path("docs").mkdir()
    for scene in (ROOT / "tests/data/scenes").glob("*.md"):
        shutil.copy(scene, "docs")
    for name, steps in STEPS.items():
        echoself(f"train {SHAPE} --max-iters {steps} --output-dir {name}")


def race(who: int, rounds: int, hub: str, barrier: Barrier, queue: "multiprocessing.Queue[object]") -> None:
    for number in range(rounds):
        kind, *models = KINDS[number % 3]
        output, repo = f"racer-{who}-{number}", f"me/round-{number}"
        shutil.copytree(models[who], output)
        if who == 0 and kind != "first publish":
            shutil.copytree("hub/models/me/base.git", f"hub/models/{repo}.git")
        barrier.wait()
        queue.put(((number, who), echoself(f"deploy --hub {hub} --repo-id {repo} --output-dir {output}", expected=None)))
        barrier.wait()
        shutil.rmtree(output)


def judge(api: HfApi, number: int, pair: list[tuple[int, str]]) -> list[str]:
    """What is wrong with a round; `pair` are exit code and output of the two."""
    kind, *models = KINDS[number % 3]
    repo, problems = f"me/round-{number}", []
    titles = [commit.title.split(",")[0] for commit in api.list_repo_commits(repo) if commit.title.startswith("Step ")]
    new = titles if kind == "first publish" else titles[:-1]
    said = [f"Step {STEPS[model]}" for model, (_, output) in zip(models, pair, strict=True) if "\ndeployed=true" in output]
    if sorted(new) != sorted(said):
        problems.append(f"commits {new}, and the deploys said {said}")
    if titles[:1] != ["Step 90"]:
        problems.append(f"{titles[:1]} stayed, not the best")
    if kind == "same" and len(new) != 1:
        problems.append(f"{len(new)} commits of one model")
    for code, output in pair:
        if code not in (0, 5):
            problems.append(f"exit code {code}: {output[-600:]}")
    lines = Path(api.hf_hub_download(repo, "metrics/history.jsonl", local_dir=f"seen/{number}")).read_text().splitlines()
    if [json.loads(line)["step"] for line in lines] != [int(title.split()[1]) for title in titles[::-1]]:
        problems.append(f"the history has {len(lines)} lines for {len(titles)} publishes")
    if run_of(api, repo, "main") != run_of(api, repo, "training-state"):
        problems.append("the training state is of another model")
    return problems


def run_of(api: HfApi, repo: str, branch: str) -> str:
    facts = api.hf_hub_download(repo, "training_metadata.json", revision=branch, local_dir=f"seen/{repo}/{branch}")
    return str(json.loads(Path(facts).read_text())["run_id"])


def echoself(words: str, expected: int | None = 0) -> tuple[int, str]:
    """Exit code, and all that it printed."""
    from echoself_action.__main__ import main

    with redirect_stdout(StringIO()) as out, redirect_stderr(out):
        code = main(words.split())
    output = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    if expected is not None and code != expected:
        sys.exit(f"{words}: exit code {code}\n{output}")
    return code, output


if __name__ == "__main__":
    main()
