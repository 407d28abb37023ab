"""The summary of a run that trains, publishes, or both: each number once, whichever parts of it there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...checkpoint.metadata import BITS_PER_BYTE, Comparison, ExportFacts, Metadata, ParityFacts, Sample, bits_per_byte
from ...checkpoint.model_folder import ModelFolder
from ...corpus.findings import Finding
from ...corpus.tokenizer import IDS
from ...evaluation.gate import Verdict, is_relative
from ...hub.history import NO_HISTORY, History
from ...hub.publish import CommitResult
from ...markdown import code, prose
from ...training.result import Result
from . import run_details as details
from .layout import Folded, JobSummary, change_text, known_loss, sentence
from .loss_curve import training_curve


@dataclass(frozen=True)
class PublishOutcome:
    """What became of a publish to `repo_url` under `gate` and `evaluate_gate`.

    `verdict` is that of the gate, None if it has not judged. `commit` is None if nothing was sent for the model. `proposal` is
    the description of the pull request that the model was proposed in. `documents` is the URL of the published documents,
    `demo_url` that of the Space that runs the model in the browser.
    """

    repo_url: str
    gate: str
    verdict: Verdict | None
    evaluate_gate: str = "none"
    commit: CommitResult | None = None
    parity: ParityFacts | None = None
    exports: Sequence[ExportFacts] = ()
    history: History = NO_HISTORY
    is_dry_run: bool = False
    proposal: str = ""
    sends_state: bool = False
    documents: str = ""
    tag: str = ""
    release_url: str = ""
    demo_url: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.passed

    @property
    def repo_id(self) -> str:
        return "/".join(self.repo_url.split("/")[-2:])


@dataclass(frozen=True)
class RunOutcome:
    """What a job did: `result` is the output of that name, `reason` why a run was rolled back or has converged.

    `model` is the best one, `resumable` what training resumes from. `trains`: the mode trains; `training` is None if no steps
    were trained. `publishing` is None if nothing was published, or if it `will_publish`. `findings` are those of the corpus,
    `report` is the path of report.html.
    """

    result: str
    model: ModelFolder
    resumable: ModelFolder
    reason: str = ""
    sample: Sample | None = None
    training: Result | None = None
    trains: bool = False
    publishing: PublishOutcome | None = None
    will_publish: bool = False
    findings: Sequence[Finding] = ()
    report: Path | None = None

    @property
    def interrupted(self) -> bool:
        return self.training is not None and self.training.stopped_by == "signal"

    @property
    def before_and_now(self) -> tuple[float | None, float | None]:
        """Bits per byte of the published model and of this one on the same text; without a publish, those before and after."""
        facts = self.model.metadata
        compared = self.publishing.verdict.compared if self.publishing and self.publishing.verdict else None
        now = facts.bits_per_byte if facts else None
        if compared and compared.unit == BITS_PER_BYTE:
            return compared.published, compared.candidate if now is None else now
        if self.publishing is None or not is_relative(self.publishing.gate):
            return self._best_before(facts), now
        return None, now

    def _best_before(self, facts: Metadata | None) -> float | None:
        before = self.training.best_before if self.training else None
        return bits_per_byte(before.val_loss, facts.bytes_per_token) if before and facts else None


def run_summary(run: RunOutcome) -> JobSummary:
    """The summary of a run with mode train, deploy or cycle."""
    facts, publishing = run.model.metadata, run.publishing
    assumed = details.assumptions(facts)
    return JobSummary(
        title=_title(run),
        lead=[part for part in (_lead(run), details.beside_bits_per_byte(facts), details.questions(facts)) if part],
        warnings=[*details.losses_of_corpus(run.findings), *([assumed] if assumed else [])],
        chart=training_curve(run.training.latest.metadata if run.training else facts),
        sample=run.sample,
        next_step=_next_step(run),
        folded=[
            Folded("Figures", details.figures(run.model, run.training, run.before_and_now, _compared(run))),
            Folded("Corpus", details.corpus(facts, run.findings)),
            Folded("Where the model is from", "" if assumed else details.origin(facts)),
            Folded("What the numbers mean", details.meaning(facts)),
            *(_published(publishing) if publishing else ()),
            Folded("Files of this job", details.places(run.model, run.resumable, run.report)),
        ],
    )


def _compared(run: RunOutcome) -> Comparison | None:
    return run.publishing.verdict.compared if run.publishing and run.publishing.verdict else None


def _title(run: RunOutcome) -> str:
    publishing, step = run.publishing, f"{run.resumable.step:,}"
    numbers = change_text(*run.before_and_now) or known_loss(run.model)
    loss = known_loss(run.model)
    if run.interrupted:
        return f"Interrupted and saved at step {step}: {loss}"
    if run.result == "converged":
        return f"Converged at {loss}: no steps were trained"
    if run.result == "rolled_back":
        return f"Rolled back to step {step}: the best model stays at {loss}"
    if publishing is None:
        reached = run.training.latest if run.training else run.resumable
        return f"{'Trained' if run.will_publish else 'Advanced'} to step {reached.step:,}: {numbers}"
    if publishing.is_dry_run:
        return f"Dry run: {'would be published' if publishing.passed else 'would not pass the gate'}: {numbers}"
    if publishing.proposal and publishing.commit and publishing.commit.pr_url:
        return f"Proposed as a pull request: {numbers}"
    if not publishing.passed:
        if publishing.verdict and publishing.verdict.fails_questions:
            failed = f"{loss} did not pass evaluate_gate {publishing.evaluate_gate}"
            return f"{f'Advanced to step {step}' if run.trains else 'Not published'}: {failed}"
        failed = f"did not pass the gate {publishing.gate}"
        failed = f"{numbers} is not significantly better" if publishing.gate == "improved" else f"{loss} {failed}"
        return f"{f'Advanced to step {step}' if run.trains else 'Not published'}: {failed}"
    if run.result == "published":
        return f"Published: {numbers}"
    if run.trains:
        return f"Advanced to step {step}: no better model than the published one, {loss}"
    if publishing.commit and publishing.commit.deployed:
        return f"Published changes to the files, with the same weights: {loss}"
    return f"Nothing to publish: the Hub has this model, {loss}"


def _lead(run: RunOutcome) -> str:
    """What was decided, and why, in at most three sentences."""
    publishing = run.publishing
    parts = []
    if run.result in ("rolled_back", "converged") and run.reason:
        parts.append(prose(sentence(run.reason)))
    elif publishing and publishing.verdict and (publishing.proposal or not publishing.commit or publishing.commit.deployed):
        parts.append(details.verdict_text(publishing.verdict, publishing.gate))
    if run.training and run.training.stopped_by != "max_iters":
        parts.append(details.stop_text(run.training))
    if publishing and (since := publishing.history.runs_since_publish()) > 1 and run.result == "advanced":
        parts.append(f"This is run {since} since the last publish.")
    if publishing and not publishing.is_dry_run:
        link = f"[{prose(publishing.repo_id)}]({publishing.repo_url})"
        sent = publishing.commit and publishing.commit.deployed and not publishing.proposal
        if sent and publishing.commit:
            commit = publishing.commit.commit
            at = f"[{code(commit[:7])}]({publishing.repo_url}/commit/{commit})"
            parts.append(f"{link} has {f'step {run.model.step:,}' if run.model.step else 'it'} now, in commit {at}.")
        else:
            parts.append(f"{link} is unchanged{', except for its training state' if publishing.sends_state else ''}.")
    return " ".join(part for part in parts if part)


def _next_step(run: RunOutcome) -> str:
    """One or two sentences."""
    publishing, step, facts = run.publishing, f"{run.resumable.step:,}", run.model.metadata
    again = f"the next run resumes from step {step}"
    if run.interrupted:
        return f"run again to resume from step {step}."
    if run.result == "converged":
        return (
            "add text, or try a smaller model, `dropout` or `init_from`. Runs are skipped until the text changes; "
            "`force: true` trains anyway."
        )
    if run.result == "rolled_back":
        return (
            f"nothing to do: the next run resumes from step {step} with other batches and a lower learning rate. If it is "
            "rolled back again, add text or set a lower `learning_rate`."
        )
    if publishing is None and run.will_publish:
        return ""
    if publishing is None:
        return f"publish the model with `mode: deploy`, or run again to resume from step {step}."
    if publishing.is_dry_run:
        listed = "the log lists the files that would be sent. " if publishing.passed else ""
        return f"{listed}Set `dry_run: false` to publish." if listed else "train further, or set another `gate`."
    if publishing.proposal and publishing.commit and publishing.commit.pr_url:
        return f"review and merge [the pull request]({publishing.commit.pr_url})."
    if not publishing.passed:
        if run.trains and is_relative(publishing.gate):
            return f"nothing to do: {again}, and publishes when its model is significantly better."
        return f"train further{f': {again}' if run.trains else ' with `mode: train` or `mode: cycle`'}; or set another `gate`."
    use = f'load it with `AutoModelForCausalLM.from_pretrained("{publishing.repo_id}"{run.model.architecture.trust_argument})`'
    if run.trains:
        return f"{use if run.result == 'published' else 'nothing to do'}; {again}."
    use += f", or [try it in the browser]({publishing.demo_url})" if publishing.demo_url else ""
    is_trainable = not (facts and facts.tokenizer.name == IDS)  # on text: its vocabulary is known
    return f"{use}{', or train it further with `mode: cycle`' if is_trainable else ''}."


def _published(publishing: PublishOutcome) -> list[Folded]:
    parts = [Folded("Checks before the upload", details.checks(publishing.parity, publishing.verdict))]
    parts.append(Folded("Other formats", details.exports(publishing.exports)))
    commit = publishing.commit
    if publishing.proposal:
        return [*parts, Folded("The pull request", publishing.proposal)]
    if commit and commit.deployed:
        parts.append(
            Folded("Published files", details.files(commit, publishing.tag, publishing.release_url, publishing.documents))
        )
    parts.append(Folded("Published models", details.history(publishing.history.publishes)))
    return parts
