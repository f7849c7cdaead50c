"""What the lab's tests measure with: a few prompts and neutral texts, and the rude words of the planted model."""

import pytest

from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.scorers import mass
from tests.models import SENTENCES
from tests.planted import rude_tokens


@pytest.fixture(scope="package")
def measure(tmp_path_factory) -> EvaluationPlan:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "prompts.txt").write_text("\n".join(f"{number} {SENTENCES[number % 10][:20]}" for number in range(16)))
    (folder / "neutral.txt").write_text("\n".join(SENTENCES))
    return EvaluationPlan(
        ("mass",),
        str(folder / "prompts.txt"),
        sampling=SamplingPlan(max_new_tokens=4),
        neutral=TextSpec(str(folder / "neutral.txt")),
        control="plain",
        controls=1,
        resamples=100,
    )


@pytest.fixture(scope="module", autouse=True)
def listed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mass, "list_rude_tokens", lambda tokenizer: rude_tokens())
        yield
