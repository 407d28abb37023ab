"""compare: evaluate the candidates on the same held-out text and the same prompts, and report which is significantly better.

With `pull_requests` it reviews pull requests on the Hub: see reviewing/.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..checkpoint.model_folder import ModelFolder
from ..config.inputs import ECHO_FIDELITY
from ..config.mode_inputs import CompareInputs, ReviewInputs
from ..config.outputs import set_outputs
from ..corpus.findings import Finding
from ..corpus.make_tokenizer import load_tokenizer
from ..corpus.tokenizer import Tokenizer
from ..corpus.tokens import Tokens
from ..evaluation.held_out import read_held_out
from ..evaluation.loss import HeldOut
from ..evaluation.paired_bootstrap import Ids
from ..evaluation.ranking import Ranking, evaluate_model, prompts_from, rank
from ..hub.access import require_write_access
from ..hub.client import open_hub
from ..hub.endpoint import Hub
from ..hub.tags import BEST, TIMESTAMP, move_tag, set_tag, timestamp_tag
from ..report.comparison import comparison_log, write_comparison_page
from ..report.github_actions import model_outputs, write_summary
from ..report.job_summary.compare_summary import compare_summary
from ..report.log import note, part, warn
from ..reviewing.review import review_pull_requests
from ..starting.candidates import ResolvedCandidate, hub_candidate, is_local, local_candidate
from ..starting.load_questions import load_questions
from ..starting.tokenize_corpus import corpus_tokens


def run(inputs: CompareInputs | ReviewInputs) -> int:
    """Run the mode; returns the exit code. Models are downloaded to a temporary folder."""
    if isinstance(inputs, ReviewInputs):
        return review_pull_requests(inputs)
    places = {name: is_local(name) for name in inputs.candidates}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        hub = None if all(places.values()) else stack.enter_context(open_hub(inputs.hub, inputs.token, note))
        if hub and inputs.promote == "better":
            require_write_access(hub)
        with part("Finding the candidates"):
            candidates = []
            for number, (name, local) in enumerate(places.items()):
                folder = scratch / str(number)
                found = (
                    local_candidate(inputs, name, folder)
                    if local or hub is None
                    else hub_candidate(hub, name, folder, inputs.tokenizer)
                )
                candidates.append(found)
        with part("Comparing"):
            ranking, findings = _ranking(inputs, candidates)
            for line in comparison_log(ranking):
                note(line)
        page = write_comparison_page(inputs.output_dir, ranking)
        winner = next((one for one in candidates if ranking.winner and one.name == ranking.winner.name), None)
        outputs = {"report": str(page)} | (_outputs(hub, winner, scratch) if winner else {})
        if inputs.promote == "better":
            outputs["tag"] = _promote(inputs, hub, winner)
    if ranking.winner:
        scores = ranking.winner.scores
        outputs |= {
            "winner": ranking.winner.name,
            "bits_per_byte": f"{scores.bits_per_byte:.6f}",
            "val_loss": f"{scores.loss:.6f}",
        }
    write_summary(compare_summary(ranking, page, findings, outputs.get("tag", "")).markdown())
    set_outputs(outputs)
    return 0


def _ranking(inputs: CompareInputs, candidates: Sequence[ResolvedCandidate]) -> tuple[Ranking, Sequence[Finding]]:
    origin, windows, tokenizer, findings = _held_out(inputs, candidates)
    prompts = prompts_from(windows, tokenizer)
    questions = load_questions(inputs, _corpus(inputs, candidates[0].folder)) if inputs.question_sources else None
    if ECHO_FIDELITY in inputs.evaluate:
        note("echo-fidelity is not measured by compare: train, cycle and deploy measure it, and record it in the model")
    models = [
        replace(evaluate_model(one.name, one.place, one.folder, windows, tokenizer, prompts, questions), url=one.url)
        for one in candidates
    ]
    return rank(f"{len(windows):,} windows, {origin}", prompts, models), findings


def _held_out(
    inputs: CompareInputs, candidates: Sequence[ResolvedCandidate]
) -> tuple[str, Sequence[Ids], Tokenizer, Sequence[Finding]]:
    """The origin of the held-out text, its windows, their tokenizer, and the findings of the corpus if it was read.

    It is the text that a candidate was evaluated on, kept beside it; else what `data` holds out, in the ids of the first
    candidate. Raises InputError if there is neither.
    """
    for one in candidates:
        if kept := read_held_out(one.folder.path):
            return f"kept beside {one.name}", kept, load_tokenizer(one.folder.path), ()
    first = candidates[0].folder
    tokens = corpus_tokens(inputs.model_copy(update={"tokenizer": None}), first)
    windows = HeldOut(tokens.val, first.config.block_size, inputs.eval_tokens).windows()
    return f"held out of {', '.join(inputs.data)}", windows, tokens.tokenizer, tokens.findings


def _corpus(inputs: CompareInputs, first: ModelFolder) -> Tokens | None:
    """The corpus of `data`, if the user has set it, to find questions in its training text."""
    return corpus_tokens(inputs.model_copy(update={"tokenizer": None}), first) if "data" in inputs.model_fields_set else None


def _outputs(hub: Hub | None, winner: ResolvedCandidate, scratch: Path) -> dict[str, str]:
    known = model_outputs(winner.folder)
    if winner.folder.path.is_relative_to(scratch):
        known |= {"checkpoint": "", "model_dir": ""}
    if hub and winner.repo_id:
        known |= {"repo_url": hub.url(winner.repo_id), "commit_sha": winner.commit, "revision": winner.revision}
    return known


def _promote(inputs: CompareInputs, hub: Hub | None, winner: ResolvedCandidate | None) -> str:
    """Tag the winner on the Hub; returns the tag, "" if none was set."""
    if winner is None:
        note("promote: no candidate is significantly better than all others, so no tag was set")
        return ""
    if hub is None or not winner.repo_id:
        warn(f"promote: {winner.name} is not on the Hub, so no tag was set. Publish it with mode: deploy.")
        return ""
    tag = inputs.tag or BEST
    if tag == BEST:
        before = move_tag(hub, winner.repo_id, tag, winner.commit)
        moved = f" (was {before})" if before and before != winner.commit else ""
        note(f"tag {tag} of {winner.repo_id} is set on {winner.commit}{moved}")
        return tag
    if tag == TIMESTAMP:
        tag = timestamp_tag(hub, winner.repo_id, winner.commit)
    set_tag(hub, winner.repo_id, tag, winner.commit)
    note(f"tag {tag} of {winner.repo_id} is set on {winner.commit}")
    return tag
