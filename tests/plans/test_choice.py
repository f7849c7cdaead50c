"""A choice among the files of a folder: equal where it stands for the same, and whole in what is kept of it."""

from detox_engine.plans.choice import Choice
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.scoring.scorers import record_plan
from detox_engine.scoring.scorers.capability import TASKS, CapabilityOptions


def test_choices_of_the_same_are_equal_however_they_were_made():
    plans = [
        EvaluationPlan(scorers=scorers)
        for scorers in (("capability",), (Choice("capability"),), (Choice("capability", CapabilityOptions()),))
    ]
    assert len(set(plans)) == 1 and FitPlan(methods=("detox", "fisher", "mean-difference")) == FitPlan()
    assert EvaluationPlan(scorers=(Choice("capability", CapabilityOptions(limit_tasks=3)),)) not in plans


def test_a_record_of_a_plan_has_the_options_of_its_scorers_in_full():
    record = record_plan(EvaluationPlan(scorers=("capability", "drift"), limit_prompts=3))
    assert (record["scorers"], record["limit_prompts"]) == (["capability", "drift"], 3)
    assert record["options"] == {"capability": {"tasks": TASKS, "limit_tasks": None, "task_files": False}}


def test_options_stay_with_the_choice_that_they_belong_to():
    few = CapabilityOptions(("boolq",))
    plan = EvaluationPlan(scorers=("drift", "capability", "no such scorer")).with_options({"capability": few})
    assert plan.scorers == (Choice("drift"), Choice("capability", few), Choice("no such scorer"))
