"""A run ends in a verdict with all that can be taken away, and goes on where it was stopped."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from detox_engine.auto import repeat as repeating
from detox_engine.auto import run as running
from detox_engine.auto.repeat import Sources, repeat
from detox_engine.auto.run import REPORT, STEPS, VERDICT, read_outcome, run_auto, run_folder
from detox_engine.errors import Cancelled, InputError
from detox_engine.export.receipt import read_receipt
from detox_engine.export.recipe import RECIPE, read_recipe
from detox_engine.export.take_away import verify_export
from detox_engine.plans.auto import AutoPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.scoring.scorers.profanity import ProfanityScorer
from tests.auto.conftest import fit_planted, name_files
from tests.planted import exchangeable_pairs, write_pairs

WORK = ("fit_study", "suggest_edit", "check_suggestion", "evaluate", "export_edit")
"""What each step does, in their order; it must be done once."""
FIT = FitPlan(keep=4)


def no_report(study, told, out, progress):
    out.write_text("<html></html>")


@pytest.fixture(scope="module")
def done(planted, model, tmp_path_factory):
    """A run that was stopped after every step and begun again; how often each piece of work was done."""
    spec, plan = planted
    folder, counts = tmp_path_factory.mktemp("run") / "edit", Counter()

    def stop_after(step):
        def tell(outcome):
            if step in outcome.seconds and outcome.step == following[step]:
                raise Cancelled

        return tell

    following = dict(zip(STEPS, [*list(STEPS)[1:], None], strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "fit_study", fit_planted)
        patch.setattr(running, "write_report", no_report)
        for name in WORK:
            own = getattr(running, name)

            def count(*given, own=own, name=name, **more):
                counts[name] += 1
                return own(*given, **more)

            patch.setattr(running, name, count)
        for step in list(STEPS)[:-1]:
            with pytest.raises(Cancelled):
                run_auto(spec, plan, folder, lambda spec, progress: model, tell=stop_after(step), fit=FIT)
            assert not folder.exists()
        told = []
        outcome = run_auto(spec, plan, folder, lambda spec, progress: model, tell=told.append, fit=FIT)
    return outcome, folder, counts, told


def test_nothing_that_was_done_is_done_again(done):
    outcome, _, counts, told = done
    assert counts == dict.fromkeys(WORK, 1)
    assert list(outcome.seconds) == list(STEPS) and outcome.step is None and told[0].step == "write"


def test_the_planted_direction_is_found_and_ships(done):
    outcome, _, _, _ = done
    score = outcome.evaluation.find("mass")
    assert outcome.study.suggestion.edit is not None
    assert score.effect.difference.high < 0 and score.effect.after.mean < 0.8 * score.effect.before.mean
    assert outcome.verdict.kind == "ship", outcome.verdict


def test_the_folder_holds_the_adapter_its_card_the_report_and_their_proof(done, model):
    outcome, folder, _, _ = done
    files = {"adapter_config.json", "adapter_model.safetensors", "README.md", "detox_receipt.json", RECIPE}
    assert files | {"detox_directions.safetensors", "evaluation.json", REPORT, VERDICT} == name_files(folder)
    assert [claim.holds for claim in verify_export(folder, model)] == [True] * 4
    card = (folder / "README.md").read_text()
    assert card.partition("## ")[0].count("**Ship.**") == 1 and "| Probability of rude words" in card
    assert "Three sets that share nothing" in card and "Not evaluated" not in card
    receipt = read_receipt(folder)
    assert receipt.sets == outcome.sets and {REPORT, VERDICT, RECIPE} <= set(receipt.files)
    told = json.loads((folder / VERDICT).read_text())
    assert told["verdict"] == "ship" and told["sets"] == outcome.sets


def test_no_file_tells_where_things_lie_on_this_machine(done, planted):
    _, folder, _, _ = done
    spec, plan = planted
    home = spec.name.rpartition("/")[0]
    for path in folder.iterdir():
        assert home.encode() not in path.read_bytes(), path.name
        assert str(run_folder(folder)).encode() not in path.read_bytes(), path.name
    assert read_recipe(folder / RECIPE).auto.prompts == "prompts.jsonl"


def test_what_a_run_came_to_is_read_again(done):
    outcome, folder, _, _ = done
    again = read_outcome(folder)
    assert again.verdict == outcome.verdict and again.sets == outcome.sets and again.step is None
    assert again.export.sizes == outcome.export.sizes
    assert read_outcome(folder / "nothing") is None


@pytest.fixture
def fits_alike(monkeypatch):
    monkeypatch.setattr(repeating, "fit_study", fit_planted)


def test_the_same_comes_out_once_more(done, planted, model, tmp_path, fits_alike):
    _, folder, _, _ = done
    spec, plan = planted
    sources = Sources(plan.pairs.source, plan.prompts, plan.neutral.source)
    found = repeat(folder / RECIPE, spec, lambda spec, progress: model, tmp_path, sources)
    assert found.holds, found.claims
    assert {"base", "sets", "pairs", "subspace", "mass", "perplexity"} <= {claim.name for claim in found.claims}
    assert found.differences == ()
    with pytest.raises(InputError, match="pairs.jsonl.*--pairs"):
        repeat(folder / RECIPE, spec, lambda spec, progress: model, tmp_path)


def test_other_figures_other_pairs_and_other_directions_are_told(done, planted, model, tmp_path, fits_alike):
    _, folder, _, _ = done
    spec, plan = planted
    sources = Sources(plan.pairs.source, plan.prompts, plan.neutral.source)
    forged = tmp_path / "forged"
    shutil.copytree(folder, forged)
    evaluation = json.loads((forged / "evaluation.json").read_text())
    for side in ("before", "after"):
        evaluation["scorers"]["mass"][side] |= {"mean": 0.9, "low": 0.89, "high": 0.91}
    (forged / "evaluation.json").write_text(json.dumps(evaluation))
    recipe = json.loads((forged / RECIPE).read_text())
    recipe["versions"]["torch"] = "0.1"
    (forged / RECIPE).write_text(json.dumps(recipe))

    def again():
        (tmp_path / "texts").mkdir(exist_ok=True)
        return repeat(forged / RECIPE, spec, lambda spec, progress: model, tmp_path / "texts", sources)

    found = again()
    assert [claim.name for claim in found.claims if not claim.holds] == ["mass"]
    assert any("torch" in each and "0.1 there" in each for each in found.differences)
    recipe["pairs_hash"] = "sha256:other"
    (forged / RECIPE).write_text(json.dumps(recipe))
    assert [claim.name for claim in again().claims][-1] == "pairs"
    recipe["sets"]["report"]["prompts_hash"] = "sha256:other"
    (forged / RECIPE).write_text(json.dumps(recipe))
    assert [claim.name for claim in again().claims][-1] == "sets"


def test_a_folder_that_exists_and_a_run_of_something_else_are_one_sentence(done, planted, model):
    outcome, folder, _, _ = done
    spec, plan = planted

    def begin(plan: AutoPlan, out=folder, fit=FIT):
        return run_auto(spec, plan, out, lambda spec, progress: model, fit=fit)

    with pytest.raises(InputError, match="exists already"):
        begin(plan)
    moved = folder.rename(folder.with_name("moved"))
    try:
        with pytest.raises(InputError, match="another model or with other options"):
            begin(replace(plan, cost="gentle"))
        with pytest.raises(InputError, match="another model or with other options"):
            begin(plan, fit=FitPlan(keep=5))
        with pytest.raises(InputError, match="does not know the licence"):
            begin(replace(plan, licence="mine"))
        file = outcome.place / "run.json"
        kept = file.read_text()
        changed = json.loads(kept)
        changed["sets"]["fit"]["pairs"] = 3
        for content, says in ((json.dumps(changed), "were changed since"), ("[", "is broken"), ("[]", "is broken")):
            file.write_text(content)
            with pytest.raises(InputError, match=says):
                begin(plan)
        file.write_text(kept)
        (outcome.place / "evaluation.json").rename(outcome.place / "kept.json")
        (outcome.place / "evaluation.json").write_text("{")
        with pytest.raises(InputError, match="evaluation.json is broken"):
            begin(plan)
        (outcome.place / "kept.json").replace(outcome.place / "evaluation.json")
    finally:
        moved.rename(folder)


def test_pairs_that_isolate_nothing_end_in_no_edit_and_say_so(planted, model, tmp_path, monkeypatch):
    spec, plan = planted
    monkeypatch.setattr(running, "write_report", no_report)
    pairs: PairSpec = write_pairs(tmp_path / "pairs.jsonl", exchangeable_pairs(60))
    folder = tmp_path / "edit"
    outcome = run_auto(spec, replace(plan, pairs=pairs), folder, lambda spec, progress: model, fit=FIT)
    assert outcome.verdict.kind == "do not ship" and outcome.export is None
    assert name_files(folder) == {REPORT, VERDICT}
    assert json.loads((folder / VERDICT).read_text())["reason"] == outcome.verdict.reason
    assert read_outcome(folder).verdict == outcome.verdict


def test_a_model_that_writes_nothing_toxic_is_told_before_an_edit_is_looked_for(planted, model, tmp_path, monkeypatch):
    spec, plan = planted
    monkeypatch.setattr(running, "write_report", no_report)
    monkeypatch.setattr(running, "NOTHING_TO_GAIN", 1.1)
    monkeypatch.setattr(running, "suggest_edit", None)
    monkeypatch.setattr(ProfanityScorer, "score", lambda self, texts: [0.0] * len(texts))
    outcome = run_auto(spec, plan, tmp_path / "edit", lambda spec, progress: model, fit=FIT)
    assert outcome.verdict.kind == "do not ship" and "nothing to gain" in outcome.verdict.reason


def test_less_time_means_fewer_prompts_and_never_none(done, planted, model):
    outcome, folder, _, _ = done
    _, plan = planted
    from detox_engine.auto.sets import divide

    sets = divide(planted[0].name, plan)

    def count(minutes: float | None) -> int:
        run = running._Run(outcome.place, folder, replace(plan, minutes=minutes), FIT, sets, model, lambda *given: None)
        return run._plan_evaluation(outcome).limit_prompts

    usual = min(running.USUAL_PROMPTS, len(sets.reported_prompts))
    assert count(None) == usual and count(1e-3) == running.LEAST_PROMPTS and count(1e4) == len(sets.reported_prompts)
