"""A search for an edit by many trials (optuna), in a journal that processes and machines share.

A trial is an edit: a method, a range of layers, sites, a rank and a strength. It is measured as the candidates of a
suggestion are: the gap between civil and toxic continuations on pairs that fitted nothing, the divergence and the
perplexity on neutral text. The search (TPE, Bergstra et al. 2011) seeks, among edits within the budget, the one that a
suggestion would take: the least probability of insults, or the largest gap where the pairs do not tell that.
What is suggested is the first trial. The winner is then measured on pairs and texts that chose nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import sleep, time
from typing import TYPE_CHECKING, Any

from detox_engine.errors import InputError, Progress, first_line, ignore_progress
from detox_engine.plans.edit import EditPlan, read_edit, record_edit
from detox_engine.plans.fit import BUDGETS, MOST_PERPLEXITY, Budget
from detox_engine.study.suggestion import Suggestion, Tried, read_tried, record_tried
from detox_engine.study.suggestion.candidates import MOST_STRENGTH, STEP, TRIED_SITES
from detox_engine.study.suggestion.search import (
    DIRECTIONS,
    LEAST_MEASURED,
    MEASURED_PAIRS,
    MEASURED_TEXTS,
    PAIR_TOKENS,
    SLOPE_PAIRS,
    choose,
    count_tokens,
    cut_lines,
    divide_neutral,
    fill,
    fit_without,
    measure_candidates,
    read_neutral,
)

if TYPE_CHECKING:
    import optuna

    from detox_engine.forward.likelihood import Span
    from detox_engine.model.load import OpenModel
    from detox_engine.plans.shared.tune import TunePlan
    from detox_engine.study.study import Study
    from detox_engine.study.subspace import ToxicSubspace

NAME = "detox"
SOUGHT = "rude words"
"""What trials are held against each other by; those of a journal that sought something else are no match."""
STAGE = "Trying edits"
BEAT = 20.0
"""Seconds between two signs of life of a trial in the journal."""
SILENCE = 300.0
"""Seconds without one after which a trial of another machine counts as dead."""
WAY_IN = "install it with: pip install 'detox-explorer[tune]'"


@dataclass(frozen=True)
class Tuned:
    """What the trials of a journal come to."""

    suggestion: Suggestion
    """The best edit of all trials, or none; `tried` has every edit once."""
    trials: int
    """Finished, by whichever process."""
    failed: int
    """Trials whose process was killed or stopped."""
    own: int
    """Those that this process made."""
    check: Tried | None
    """The winner on pairs and texts that chose nothing; None without a winner, or without enough pairs."""


def require_optuna() -> None:
    if find_spec("optuna") is None:
        raise InputError(f"Tuning needs optuna, which is not installed: {WAY_IN}.")


def tune(model: OpenModel, study: Study, plan: TunePlan, progress: Progress = ignore_progress) -> Tuned:
    """Go on with the trials of a journal until it has as many as the plan asks for. Progress counts them.

    Raises:
        InputError: optuna is not installed, the journal is of another study or cannot be read, or the study has not
            kept what a search rests on.
    """
    require_optuna()
    study.require_fit(model)
    budget = plan.budget or study.plan.budget
    with _quiet():
        # A journal that is there is looked at before anything takes time; a new one begins once there is what to try.
        trials = _open_journal(study, plan, budget) if Path(plan.journal).exists() else None
        bench = _Bench(model, study, budget, progress)
        trials = _open_journal(study, plan, budget) if trials is None else trials
        _enqueue(trials, study)
        own = _run(trials, bench, plan.trials, progress)
        found = _finished(trials)
        tried = {json.dumps(record_edit(one.edit)): one for one in map(bench.read, found)}
        suggestion = choose(tuple(tried.values()), budget)
        states = [trial.state.name for trial in trials.get_trials(deepcopy=False)]
        check = None if suggestion.edit is None else bench.check(suggestion.edit)
    return Tuned(suggestion, len(found), states.count("FAIL"), own, check)


class _Bench:
    """What edits are measured with; pairs and texts that choose are apart from those of the check."""

    def __init__(self, model: OpenModel, study: Study, budget: Budget, progress: Progress) -> None:
        from detox_engine.forward.likelihood import cut_continuations
        from detox_engine.study.fit import hold_out

        if study.embeddings is None:
            raise InputError("The study did not keep its embeddings, which a search rests on: fit it again with them.")
        held = sorted(hold_out(len(study.pairs)))
        pairs = cut_continuations(model, [study.pairs[row] for row in held], study.plan.max_length)
        for_slopes = min(SLOPE_PAIRS, len(pairs) // 3)
        # Those of the slopes have chosen what is suggested, so that they can choose here and not check.
        chosen = pairs[: for_slopes + MEASURED_PAIRS]
        self.pairs = fill(chosen, count_tokens, 2 * PAIR_TOKENS, LEAST_MEASURED)
        self.fresh = pairs[for_slopes + MEASURED_PAIRS :]
        if len(self.pairs) < LEAST_MEASURED:
            raise InputError(
                f"Only {len(self.pairs)} pairs are held out to measure an edit on, and {LEAST_MEASURED} are needed: "
                "fit on 60 pairs or more."
            )
        lines = read_neutral(model)
        self.neutral = cut_lines(model, divide_neutral(lines)[1])
        self.fresh_neutral = cut_lines(model, lines[len(lines) // 2 :][MEASURED_TEXTS:][:MEASURED_TEXTS] or lines[-1:])
        self.model, self.layers, self.shunned = model, study.layers, set(study.sink_writers)
        self.directions: Mapping[str, Sequence[ToxicSubspace]] = fit_without(study, held, progress)
        self.budget, self.progress = budget, progress

    def suggest(self, trial: optuna.Trial) -> EditPlan:
        """The edit of a trial: the one that it was given, or one of the space."""
        given = trial.user_attrs.get("edit")
        method = trial.suggest_categorical("method", sorted(self.directions))
        sites = trial.suggest_categorical("sites", TRIED_SITES)
        ends = sorted(trial.suggest_int(name, 0, self.layers - 1) for name in ("one end", "other end"))
        most = min(DIRECTIONS, *(layer.kept for layer in self.directions[method]))
        rank = min(trial.suggest_int("rank", 1, DIRECTIONS), most)
        strength = round(trial.suggest_float("strength", STEP, MOST_STRENGTH, step=STEP), 2)
        if given is not None:
            return read_edit(given, self.layers)
        reach = range(ends[0], ends[1] + 1)
        layers = tuple(layer for layer in reach if layer not in self.shunned) or tuple(reach)
        return EditPlan(layers, rank, strength, method=method, sites=sites)

    def measure(self, edit: EditPlan, progress: Progress) -> Tried:
        return self._measure(edit, self.pairs, self.neutral, progress)

    def check(self, edit: EditPlan) -> Tried | None:
        """The edit on what chose nothing; None where too few pairs are left."""
        if len(self.fresh) < LEAST_MEASURED:
            return None
        return self._measure(edit, self.fresh, self.fresh_neutral, self.progress)

    def _measure(
        self, edit: EditPlan, pairs: Sequence[tuple[Span, Span]], neutral: Sequence[Span], progress: Progress
    ) -> Tried:
        plain = Tried(edit, 0.0, 0.0)
        return measure_candidates(self.model, self.directions, [plain], pairs, neutral, progress)[0]

    def read(self, trial: optuna.trial.FrozenTrial) -> Tried:
        """What a finished trial found."""
        return read_tried(trial.user_attrs["found"], self.layers)


def _open_journal(study: Study, plan: TunePlan, budget: Budget) -> optuna.Study:
    """The trials of the journal, or none of a new one."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = Path(plan.journal)
    key = _hash_study(study, budget)

    def join(tries: int) -> optuna.Study:
        try:
            storage = JournalStorage(JournalFileBackend(str(file)))
            return optuna.create_study(study_name=NAME, storage=storage, direction="maximize", load_if_exists=True)
        except RuntimeError:
            # Of two who find the lock of a dead process at once, the one that comes second to take it away fails.
            if tries == 1:
                raise
            sleep(1)
            return join(tries - 1)

    try:
        trials = join(3)
        kept = trials.user_attrs.get("study")
    except Exception as error:  # of many kinds, as whatever stands in the file has it
        raise InputError(
            f"{file} cannot be used as a journal ({first_line(error)}): name a new file, or one that “detox tune” "
            "wrote."
        ) from error
    if kept is None:
        trials.set_user_attr("study", key)
    elif kept != key:
        raise InputError(f"{file} has trials of another study, model, budget or version: name another file for these.")
    # Of the trials that are there, since a rerun would else begin with the draws of the first run.
    seed = plan.seed + len(trials.get_trials(deepcopy=False))
    trials.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return trials


def _hash_study(study: Study, budget: Budget) -> str:
    """What trials depend on: the model's weights, the pairs, and how they were fitted."""
    from detox_engine.study.study import record_fit

    told = [study.model.weights_hash, study.pairs_hash, study.pair_count, record_fit(study.plan), budget, SOUGHT]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def exceed(found: Tried, budget: Budget) -> tuple[float, float]:
    """How far the divergence and the perplexity of an edit are above the budget, as shares of it; below 0 within it."""
    divergence = found.divergence / BUDGETS[budget] - 1
    return divergence, (found.perplexity - 1) / (MOST_PERPLEXITY[budget] - 1) - 1


def _enqueue(trials: optuna.Study, study: Study) -> None:
    """Let what is suggested be the first trial."""
    edit = study.suggestion and study.suggestion.edit
    if edit is None or trials.get_trials(deepcopy=False):
        return
    params = {
        "method": edit.method,
        "sites": edit.sites,
        "one end": min(edit.layers),
        "other end": max(edit.layers),
        "rank": min(edit.rank, DIRECTIONS),
        "strength": min(max(edit.strength, STEP), MOST_STRENGTH),
    }
    trials.enqueue_trial(params, user_attrs={"edit": record_edit(edit)}, skip_if_exists=True)


def _run(trials: optuna.Study, bench: _Bench, wanted: int, progress: Progress) -> int:
    """Make trials until there are as many as are wanted; how many were made here."""
    from optuna.trial import TrialState

    own = 0
    while True:
        _bury(trials)
        finished = _finished(trials)
        progress(STAGE, min(len(finished), wanted), wanted)
        running = trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if len(finished) + len(running) >= wanted:
            return own
        trial = trials.ask()
        trial.set_user_attr("owner", _identify())
        before = trials.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.COMPLETE))
        if sum(other.number < trial.number for other in before) >= wanted:
            # Another process asked at the same moment.
            trials.tell(trial, state=TrialState.FAIL)
            return own
        try:
            _try(trials, trial, bench, finished, progress, wanted)
        except BaseException:
            trials.tell(trial, state=TrialState.FAIL)
            raise
        own += 1


def _try(
    trials: optuna.Study,
    trial: optuna.Trial,
    bench: _Bench,
    finished: Sequence[optuna.trial.FrozenTrial],
    progress: Progress,
    wanted: int,
) -> None:
    edit = bench.suggest(trial)
    record = record_edit(edit)
    # What was measured once is not measured again.
    known = next((other for other in finished if other.user_attrs["found"]["edit"] == record), None)
    told = time()

    def beat(stage: str, done: int, total: int) -> None:
        nonlocal told
        progress(STAGE, len(finished), wanted)
        if time() - told > BEAT:
            told = time()
            trial.set_user_attr("beat", told)

    found = bench.measure(edit, beat) if known is None else bench.read(known)
    trial.set_user_attr("found", record_tried(found))
    for name, over in zip(("divergence", "perplexity"), exceed(found, bench.budget), strict=True):
        trial.set_constraint(name, over)
    trials.tell(trial, found.worth)


def _finished(trials: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    from optuna.trial import TrialState

    return trials.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _identify() -> dict[str, Any]:
    """Who makes a trial: a process id is used again in time, one with its start is not."""
    import psutil

    return {"host": socket.gethostname(), "process": os.getpid(), "since": psutil.Process().create_time()}


def _bury(trials: optuna.Study) -> None:
    """Mark trials as failed whose process is gone, or that gave no sign of life for long."""
    from optuna.trial import TrialState

    for trial in trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get("owner")
        last = max(trial.user_attrs.get("beat", 0.0), trial.datetime_start.timestamp() if trial.datetime_start else 0.0)
        here = owner is not None and owner["host"] == socket.gethostname()
        if (here and not _lives(owner)) or (not here and time() - last > SILENCE):
            # Another process may have done so meanwhile.
            trials.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _lives(owner: Mapping[str, Any]) -> bool:
    import psutil

    try:
        return abs(psutil.Process(owner["process"]).create_time() - owner["since"]) < 1
    except psutil.Error:
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what optuna tells of every trial, and of what may change in it."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
