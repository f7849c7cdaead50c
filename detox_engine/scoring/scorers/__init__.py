"""Which scorers a plan asks for."""

from detox_engine.errors import Progress, ignore_progress
from detox_engine.plans.measure import EvaluationPlan
from detox_engine.scoring.scorer import Scorer
from detox_engine.scoring.scorers.capability import Capability, require_harness
from detox_engine.scoring.scorers.classifier import load_classifier
from detox_engine.scoring.scorers.distinct import NAMES, Distinct
from detox_engine.scoring.scorers.drift import Drift
from detox_engine.scoring.scorers.fluency import Fluency
from detox_engine.scoring.scorers.perplexity import Perplexity
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from detox_engine.scoring.scorers.suppression import suppression_scorers
from detox_engine.scoring.toxicity import toxicity_scorers


def find_scorers(
    plan: EvaluationPlan, device: str = "auto", progress: Progress = ignore_progress
) -> tuple[Scorer, ...]:
    """The scorers that `plan` names, in its order; whatever is missing is told before anything is measured.

    Raises:
        InputError: the classifier cannot be used, or lm-evaluation-harness is asked for and not installed.
    """
    samples = plan.sampling.samples
    found: list[Scorer] = []
    for name in dict.fromkeys(plan.scorers):
        if name == "profanity":
            found += toxicity_scorers(ProfanityScorer(), samples)
        elif name == "classifier":
            classifier = load_classifier(plan.classifier, plan.classifier_label, device, progress)
            found += toxicity_scorers(classifier, samples)
        elif name == "suppression":
            found += suppression_scorers()
        elif name == "distinct":
            found += [Distinct(length) for length in NAMES]
        elif name == "capability":
            require_harness()
            found += [Capability(task, plan.limit_tasks) for task in plan.tasks]
        else:
            found.append({"perplexity": Perplexity, "drift": Drift, "fluency": Fluency}[name]())
    return tuple(found)
