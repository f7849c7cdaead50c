"""Toxicity of what a model writes, by a text-classification model."""

from dataclasses import dataclass

from detox_engine.plans.option import option
from detox_engine.scoring.scorer import LESS_TOXIC, ScorerKind
from detox_engine.scoring.toxicity import toxicity_scorers

CLASSIFIERS = ("unitary/toxic-bert", "unitary/unbiased-toxic-roberta")


@dataclass(frozen=True)
class ClassifierOptions:
    """Which model classifies, and how it calls toxic text."""

    classifier: str = option(
        CLASSIFIERS[0],
        "Text-classification model for the classifier scorer: a Hub id or a folder.",
        "--classifier",
        link="classifier",
        offers=CLASSIFIERS,
        title="Classifier",
        may_be_file=True,
    )
    classifier_label: str | None = option(
        None,
        "Label of that model that stands for toxic text, where it is not recognised by itself.",
        "--classifier-label",
        link="classifier_label",
        title="Its label for toxic text",
        empty="found by itself",
    )


def make(options, context):
    from detox_engine.scoring.text_classifier import load_classifier

    classifier = load_classifier(options.classifier, options.classifier_label, context.device, context.progress)
    return toxicity_scorers(classifier, context.samples)


SCORER = ScorerKind(
    name="classifier",
    title="Toxicity, by a classifier",
    sentence="toxicity of what it writes, by a text-classification model",
    question=LESS_TOXIC,
    unit="toxicity, 0 to 1",
    range=(0.0, 1.0),
    needs=("prompts",),
    role="harm",
    called="Toxicity by the classifier",
    options=ClassifierOptions,
    place=1,
    make=make,
)
