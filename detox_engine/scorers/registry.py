"""Which scorers a plan asks for."""

from detox_engine.plans import EvaluationPlan
from detox_engine.scorers.capability import Capability, require_harness
from detox_engine.scorers.classifier import load_classifier
from detox_engine.scorers.distinct import NAMES, Distinct
from detox_engine.scorers.drift import Drift
from detox_engine.scorers.fluency import Fluency
from detox_engine.scorers.perplexity import Perplexity
from detox_engine.scorers.profanity import ProfanityScorer
from detox_engine.scorers.scorer import Scorer
from detox_engine.scorers.suppression import suppression_scorers
from detox_engine.scorers.toxicity import toxicity_scorers
from detox_engine.specs import Progress, ignore_progress


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
