"""Toxicity of what a model writes, by a text-classification model."""

from detox_engine.scoring.scorer import LESS_TOXIC, ScorerKind
from detox_engine.scoring.toxicity import toxicity_scorers


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
    place=1,
    make=make,
)
