"""Claims: verdicts and pictures of what labs found, whose records are shown where, and labs that are run here."""

import copy
import json
import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from detox_engine.data import bundled
from detox_engine.errors import InputError
from detox_engine.lab import contestants
from detox_engine.lab.kept import LABS, keep_record, load_record
from detox_engine.lab.verdicts import HELD, NOT_SEEN, OPEN, PARTLY, judge_claims
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.plans.lab.experiments import QUICK
from detox_engine.scoring.scorers import mass
from detox_engine.study.study import Study
from pages.claims import records, work
from pages.claims.cards.curves import find_crossing
from pages.claims.page import MAKE, judge, summarise
from pages.claims.picks import CentringPicks, ClaimsPicks, LinkPicks
from pages.claims.provenance import list_facts, provenance_html
from pages.claims.records import Found, is_of, reading
from tests.pages.conftest import HOSTILE, fitted_app, open_app, run_until, texts, unfold
from tests.planted import rude_tokens
from ui.session import shared_models
from ui.session.view import Fitted
from ui.show.colours import DARK, LIGHT

PAGE = "claims/page.py"
EVALUATION = {
    "scorers": ["profanity", "mass"],
    "prompts": "bundled",
    "limit_prompts": 30,
    "sampling": {"max_new_tokens": 20, "seed": 0},
    "seed": 0,
}
TRAINING = {"learning_rates": [1e-3], "steps": 20, "batch": 8, "beta": 0.1, "lora_rank": 16, "smoothing": 0.1}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(mass, "list_rude_tokens", lambda tokenizer: rude_tokens())
    work.LAB._shared._results.clear()


def head(study: Study | None = None) -> dict:
    model = {"name": "tiny", "weights_hash": "sha256:" + "0" * 64}
    pairs = "sha256:" + "1" * 64
    if study is not None:
        model, pairs = {"name": "tiny", "weights_hash": study.model.weights_hash}, study.pairs_hash
    return {"model": model, "pairs_hash": pairs, "made": "2026-01-02T03:04:05+00:00", "versions": {"torch": "2"}}


def estimate(mean: float) -> dict:
    return {"mean": mean, "low": 0.8 * mean, "high": 1.2 * mean, "n": 30}


def row(title: str, mean: float, edit: dict | None = None, reached: bool = True) -> dict:
    effect = {
        "before": estimate(0.5),
        "after": estimate(mean),
        "control": estimate(0.49),
        "draws": [0.48, 0.5],
        "beyond": {"mean": mean - 0.49, "low": mean - 0.55, "high": mean - 0.43, "n": 30},
    }
    cost = {"strength": 1.1, "kl": 0.015, "perplexity": 1.01, "reached": reached}
    scorers = {"profanity": effect, "mass": copy.deepcopy(effect)}
    return {"title": title, "edit": edit, "cost": cost, "seconds": 3.0, "memory": 1e6, "scorers": scorers}


def bench_record(study: Study | None = None, left: float = 0.1) -> dict:
    step = {"step": 5, "loss": 0.6, "margin": 0.1, "accuracy": 0.9}
    run = {"learning_rate": 1e-3, "trained": [step], "held_out": [step]}
    facts = {"runs": [run], "pairs": 20, "held_out": 4, "learning_rate": 1e-3, "best": step}
    made = row("DPO", 0.02) | {"cost": {"strength": 1.0, "kl": 0.2, "perplexity": 1.3, "reached": True}}
    return {
        **head(study),
        "cost": "kl",
        "wanted": 0.015,
        "methods": {
            "detox": row("DeTox", left, record_edit(EditPlan((1,), 1, 0.8))),
            "leace": row("LEACE", 0.3, record_edit(EditPlan((1,), 1, 0.6, method="leace"))),
            "dpo": row("DPO", 0.3, reached=False),
        },
        "random": [],
        "evaluation": EVALUATION,
        "training": TRAINING | {"seed": 0},
        "prompts": 30,
        "also": [],
        "as_made": {"dpo": made},
        "facts": {"dpo": facts},
        "left_out": {"prompt-only": f"No template. {HOSTILE}"},
        "seconds": 10.0,
    }


def point(method: str, mean: float, **more) -> dict:
    setting = {"method": method, "pairs": 40, "flipped": 0.0, "draw": 0, "rank": None, "matched": True}
    cost = {"strength": 1.0, "kl": 0.015, "perplexity": 1.01, "reached": True}
    scores = {
        f"{score}_{part}": value
        for score in ("profanity", "mass")
        for part, value in {"mean": mean, "low": 0.9 * mean, "high": 1.1 * mean, "before": 0.5}.items()
    }
    return setting | cost | scores | more


def curve_record(points: list[dict], study: Study | None = None) -> dict:
    asked = {"cost": "kl", "wanted": 0.015, "draw_seed": 0, "training": TRAINING | {"seed": 0}, "pair_count": 40}
    return {**head(study), **asked, "evaluation": EVALUATION, "points": points}


def sizes_record(study: Study | None = None, last: float = 0.3) -> dict:
    levels = {"detox": {5: 0.2, 40: 0.1}, "dpo": {5: 0.45, 40: last}}
    return curve_record(
        [point(name, each[pairs], pairs=pairs) for name, each in levels.items() for pairs in each], study
    )


def noise_record(study: Study | None = None) -> dict:
    levels = {"detox": {0.0: 0.1, 0.5: 0.12}, "mean-difference": {0.0: 0.1, 0.5: 0.45}}
    points = [point(name, left, flipped=at) for name, each in levels.items() for at, left in each.items()]
    return curve_record(points, study)


def centring_record(study: Study | None = None) -> dict:
    points = [
        point(name, 0.1, rank=rank, matched=matched, perplexity=cost)
        for name, cost in (("detox", 1.0), ("uncentred", 1.2))
        for rank in (1, 4)
        for matched in (False, True)
    ]
    return curve_record(points, study)


def link_record(study: Study | None = None, inside: float = 0.5) -> dict:
    layer = {
        "inside": inside, "random": 0.1, "random_low": 0.05, "random_high": 0.15, "first": 0.4, "mean_difference": 0.4,
        "random_first": 0.05, "beyond_chance": inside > 0.15,
    }  # fmt: skip
    layers = [{"layer": number} | layer for number in range(3)]
    step = {"pairs": 5, "draw": 0, "plain": 0.4, "filtered": 0.3, "filtered_both": 0.7, "random_both": 0.5}
    return {
        **head(study),
        "plan": {"seed": 0, "learning_rate": 3e-4, "training": TRAINING | {"seed": 0}},
        "rank": 2,
        "pairs": 40,
        "layers": layers,
        "along_training": [{"step": 10, "layers": layers}],
        "denoised": [step],
    }


RECORDS = {
    "bench": bench_record,
    "sample-size": sizes_record,
    "label-noise": noise_record,
    "dpo-link": link_record,
    "centring": centring_record,
}


def open_page(folder: str, **link: object):
    session = fitted_app(folder, **link).switch_page(PAGE).run()
    assert not session.exception, session.exception
    return session


def study_of(session) -> tuple[Fitted, Study]:
    key = session.session_state["view"].study_key
    study = shared_models.shelf().find_study(key)
    return Fitted(key, study.made), study


def keep_here(session, **made: dict) -> Path:
    folder = work.find_folder(*study_of(session))
    folder.mkdir(parents=True, exist_ok=True)
    for lab, record in made.items():
        keep_record(folder, lab.replace("_", "-"), record)
    return folder


def charts(session) -> list[str]:
    return [chart.key for chart in session.get("plotly_chart") if chart.key.startswith("claims")]


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ((HELD, HELD, HELD, PARTLY, NOT_SEEN), "Of five claims three held here, one in part, one was not seen."),
        ((PARTLY, OPEN, OPEN, OPEN, OPEN), "Of five claims one held in part, four were not measured."),
        ((OPEN,) * 5, "None of the claims has been measured on this study yet."),
        ((HELD,) * 5, "Of five claims five held here."),
    ],
)
def test_the_line_at_the_top_counts_the_verdicts(verdicts, told):
    assert summarise(verdicts) == told


def test_without_a_study_the_page_offers_one():
    session = open_app(model="someone/nobody", device="cpu").switch_page(PAGE).run()
    assert not session.exception and "There is no study to show yet" in texts(session)


def test_what_was_never_measured_is_said_to_be_so_and_can_be_run(tiny_folder):
    session = open_page(tiny_folder)
    shown = texts(session)
    assert "None of the claims has been measured" in shown and shown.count("Not measured") == len(LABS)
    assert not charts(session) and re.search(r"It takes about \d+ (seconds|minutes)", shown)
    assert {button.key for button in session.button} >= {f"run_{lab}" for lab in LABS}
    assert "The factor model that the paper assumes" in shown


def test_every_card_shows_the_verdict_of_its_record_above_its_pictures(tiny_folder):
    session = open_page(tiny_folder)
    _, study = study_of(session)
    made = {lab: make(study) for lab, make in RECORDS.items()}
    keep_here(session, **made)
    unfold(session, *(f"numbers_{lab}" for lab in LABS), "folded_claims_as_made", "folded_claims_training")
    assert not session.exception and not session.error
    shown = texts(session)
    verdicts = [claim.verdict for claim in judge_claims(made)]
    assert summarise(verdicts) in shown and verdicts.count(HELD) >= 3
    for claim in judge_claims(made):
        assert f'class="claim {claim.verdict.replace(" ", "-")}"' in shown
    assert charts(session) == [
        "claims_bench", "claims_as_made", "claims_training", "claims_sample_size", "claims_label_noise",
        "claims_link", "claims_link_training", "claims_link_cosines", "claims_centring", "claims_centring_matched",
    ]  # fmt: skip
    assert "kept beside the study" in shown and "2026-01-02" in shown
    # What a stranger wrote is no markup.
    assert HOSTILE not in shown and r"\<script\>" in shown
    session.segmented_control(key="claims_score").set_value("profanity").run()
    assert not session.exception
    spec = next(chart.proto.spec for chart in session.get("plotly_chart") if chart.key == "claims_bench")
    assert "Toxicity left" in spec


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("score", ["mass", "profanity"])
def test_pictures_are_made_of_a_record_with_words_and_tables(lab, score):
    record = json.loads(json.dumps(RECORDS[lab]()))
    for colours in (LIGHT, DARK):
        card = MAKE[lab](record, score, colours)
        for picture in (card.first, *card.beside, *(each for _, each in card.folded)):
            picture.figure.to_json()
            heads, rows = picture.table
            assert rows and all(len(row) == len(heads) for row in rows) and picture.alt and picture.title
            titles = [axis.title.text for axis in picture.figure.select_xaxes()]
            assert titles[-1]
    assert "torch 2" in provenance_html(Found(record, "here"))


def test_what_a_record_rests_on_names_the_training_that_was_and_no_other():
    facts = {lab: dict(list_facts(Found(make(), "here"))) for lab, make in RECORDS.items()}
    assert [lab for lab in LABS if "DPO" in facts[lab]] == ["bench", "sample-size", "dpo-link"]
    # The link has a learning rate of its own, and trains up to the last step that is looked at.
    assert "at most 10 steps" in facts["dpo-link"]["DPO"] and "learning rates 0.0003," in facts["dpo-link"]["DPO"]
    assert "at most 20 steps" in facts["bench"]["DPO"] and "learning rates 0.001," in facts["bench"]["DPO"]
    untrained = dict(list_facts(Found(link_record() | {"along_training": []}, "here")))
    assert "DPO" not in untrained and "training" not in untrained["Seeds"] and "training" not in facts["centring"]


def test_captions_say_what_the_record_bears_out():
    record = bench_record()
    record["also"] = [{"cost": "perplexity", "wanted": 0.015, "methods": copy.deepcopy(record["methods"])}]
    record["also"][0]["methods"]["leace"]["cost"]["reached"] = False
    card = MAKE["bench"](record, "mass", LIGHT)
    (_, other), (_, training) = card.folded
    assert "band reaches over 2 random subspaces" in card.first.note
    assert card.first.note.endswith("that was tried: DPO.") and other.note.endswith("that was tried: LEACE, DPO.")
    assert "no longer falls, or after 20 steps. DPO at its best after 5 steps" in training.note
    made = {trace.hovertemplate.split(":")[0]: trace.marker.symbol for trace in card.beside[0].figure.data}
    assert made == {"DeTox": ("diamond",), "LEACE": ("circle",), "DPO": ("square-open", "square")}
    assert "drawn once" in MAKE["dpo-link"](link_record(), "mass", LIGHT).beside[1].note
    centring = centring_record()
    assert not MAKE["centring"](centring, "mass", LIGHT).notes
    centring["points"][1]["reached"] = False
    (told,) = MAKE["centring"](centring, "mass", LIGHT).notes
    assert told.startswith("1 of 4 fits do not come to that cost")


NONSENSE = [None, [], "words", {"a": 1}, -1, True]


@pytest.mark.parametrize("lab", LABS)
def test_whatever_a_file_holds_instead_ends_in_a_card_or_in_none(lab):
    """Any part of a record, replaced by something else: never a traceback."""
    whole = RECORDS[lab]()

    def places(value, path=()):
        if isinstance(value, dict | list):
            for key in value if isinstance(value, dict) else range(len(value)):
                yield (*path, key)
                yield from places(value[key], (*path, key))

    # Of what is alike, such as layers, methods and scores, one stands for all.
    many = {"methods", "as_made", "scorers"}
    alike = {
        tuple(
            "*" if isinstance(key, int) or before in many else key
            for before, key in zip(("", *path), path, strict=False)
        ): path
        for path in places(whole)
    }
    for number, path in enumerate(alike.values()):
        record = copy.deepcopy(whole)
        part = record
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = NONSENSE[number % len(NONSENSE)]
        judge({lab: record})
        card = reading(partial(MAKE[lab], record, "mass", LIGHT))
        if card is not None:
            card.first.figure.to_json()
        reading(partial(provenance_html, Found(record, "here")))


def test_any_edit_of_the_bench_can_be_made_the_plan(tiny_folder):
    session = open_page(tiny_folder)
    _, study = study_of(session)
    keep_here(session, bench=bench_record(study))
    session.run()
    chosen = session.selectbox(key="claims_take")
    assert chosen.options == ["DeTox", "LEACE"], "DPO is no such edit"
    assert session.session_state.view.edit != EditPlan((1,), 1, 0.6, method="leace")
    chosen.set_value("LEACE").run()
    session.button(key="take_claimed").click().run()
    assert not session.exception
    assert session.session_state.view.edit == EditPlan((1,), 1, 0.6, method="leace")
    assert session.button(key="take_claimed").disabled


def test_a_record_of_nonsense_is_not_measured_and_spoils_no_other(tiny_folder):
    session = open_page(tiny_folder)
    _, study = study_of(session)
    broken = head(study) | {"methods": {"detox": 3}, "cost": "kl"}
    # One whose numbers can be judged, but not what they rest on, counts as little.
    half = sizes_record(study) | {"versions": 3}
    keep_here(session, bench=broken, sample_size=half, centring=centring_record(study))
    session.run()
    assert not session.exception
    shown = texts(session)
    assert shown.count("cannot be read, so it counts as not measured") == 2
    assert "Of five claims one held here, four were not measured." in shown
    assert charts(session) == ["claims_centring", "claims_centring_matched"]


def test_shipped_records_are_shown_for_the_very_weights_and_pairs_alone_and_own_ones_before_them(
    tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(records, "find_claims", lambda name: tmp_path)
    session = open_page(tiny_folder)
    fitted, study = study_of(session)
    shipped, own = bench_record(study, left=0.2), bench_record(study, left=0.1)
    keep_record(tmp_path, "bench", shipped)
    found = records.find_record(fitted, study, "bench", "")
    assert (found.source, found.record) == ("shipped", shipped)
    unfold(session, "numbers_bench")
    assert "comes with the project" in texts(session) and "DeTox leaves 40 %" in texts(session)
    for other in ({"model": {"weights_hash": "sha256:other"}}, {"pairs_hash": "sha256:other"}, {"model": 3}):
        assert not is_of(shipped | other, study)
    assert is_of({key: value for key, value in shipped.items() if key != "pairs_hash"}, study)
    keep_record(tmp_path, "bench", shipped | {"pairs_hash": "sha256:other"})
    assert records.find_record(fitted, study, "bench", "") is None
    keep_record(tmp_path, "bench", shipped)
    keep_here(session, bench=own)
    session.run()
    assert "DeTox leaves 20 %" in texts(session) and "comes with the project" not in texts(session)


def test_what_is_shipped_lies_in_a_folder_for_each_model_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "CLAIMS", tmp_path)
    (tmp_path / "demo").mkdir()
    assert bundled.find_claims("bundled") == tmp_path / "demo"
    assert bundled.find_claims("smollm2") is None and bundled.find_claims("gpt2") is None


def test_a_lab_is_run_from_the_page_and_its_record_is_kept(tiny_folder):
    session = open_page(tiny_folder, centring_ranks="1", centring_prompts=4)
    session.button(key="run_centring").click().run()
    run_until(session, lambda session: "lab centring" not in session.session_state["jobs"] or session.error)
    assert not session.exception and not session.error
    assert charts(session) == ["claims_centring", "claims_centring_matched"]
    record = load_record(work.find_folder(*study_of(session)), "centring")
    assert len(record["points"]) == 4 and record["evaluation"]["limit_prompts"] == 4
    work.LAB._shared._results.clear()
    again = open_page(tiny_folder)
    assert charts(again) == ["claims_centring", "claims_centring_matched"]


@pytest.mark.parametrize(
    ("lab", "link"),
    [
        ("bench", {"bench_methods": "detox,mean-difference", "bench_cost": "kl", "bench_prompts": 4}),
        ("dpo-link", {"dpo_link_at_steps": 0, "dpo_link_few": 5, "dpo_link_draws": 1}),
        (
            "label-noise",
            {
                "label_noise_methods": "detox,mean-difference",
                "label_noise_flipped": 0.5,
                "label_noise_draws": 1,
                "label_noise_prompts": 4,
            },
        ),
    ],
)
def test_what_a_lab_really_writes_can_be_drawn(tiny_folder, lab, link):
    session = open_page(tiny_folder, **link)
    session.button(key=f"run_{lab}").click().run()
    run_until(session, lambda session: f"lab {lab}" not in session.session_state["jobs"] or session.error)
    assert not session.exception and not session.error
    assert charts(session) and "cannot be read" not in texts(session)


def test_a_run_that_is_stopped_says_so_and_shows_what_it_has(tiny_folder, monkeypatch):
    def run(bench, study, plan, folder, progress, tell):
        tell(sizes_record(study))
        while True:
            progress("Trying settings", 4, 9)

    monkeypatch.setattr(work, "run", run)
    session = open_page(tiny_folder)
    session.button(key="run_sample-size").click().run()
    run_until(session, lambda session: charts(session) == ["claims_sample_size"])
    assert "The run is not over. So far: At equal cost" in texts(session) and "None of the claims" in texts(session)
    session.button(key="stop_lab sample-size").click().run()
    run_until(session, lambda session: not session.session_state["jobs"]["lab sample-size"].running)
    session.run()
    assert not session.exception and "a new run goes on from there" in texts(session)
    assert session.button(key="run_sample-size").label == "Go on with the run"
    assert load_record(work.find_folder(*study_of(session)), "sample-size") is None


def test_what_needs_trl_says_in_a_sentence_how_to_install_it(tiny_folder, monkeypatch):
    from detox_engine.lab import dpo

    for module in (contestants, dpo):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in ("trl", "peft") else object())
    session = open_page(tiny_folder)
    told = [error.value.replace("\\", "") for error in session.error]
    assert len(told) == 1 and "pip install 'detox-explorer[dpo]'" in told[0]
    assert "run_dpo-link" not in {button.key for button in session.button}
    assert "DPO is left out" in texts(session)
    session.text_input(key="claims.dpo_link_at_steps").set_value("0").run()
    assert not session.error and "run_dpo-link" in {button.key for button in session.button}


def test_settings_that_cannot_be_are_one_sentence(tiny_folder):
    session = open_page(tiny_folder)
    session.text_input(key="claims.centring_ranks").set_value("one, two").run()
    assert not session.exception and len(session.error) == 1 and "ranks" in session.error[0].value
    session.text_input(key="claims.centring_ranks").set_value("0").run()
    assert not session.exception and len(session.error) == 1


def test_a_study_without_embeddings_says_what_to_do_about_it(fitted):
    _, study = fitted
    without = replace(study, embeddings=None)
    for lab in LABS[1:]:
        with pytest.raises(InputError, match="kept no embeddings"):
            work.estimate(without, QUICK[lab])
    assert work.estimate(without, QUICK["bench"]) >= 0


def test_the_command_runs_what_the_page_runs(tiny_folder):
    session = open_page(tiny_folder, sample_size_sizes="5,20", bench_methods="detox,dpo")
    commands = [shlex.split(code.value.splitlines()[-1]) for code in session.code]
    assert [command[1:3] for command in commands] == [["bench", "my-study"], *(["lab", lab] for lab in LABS[1:])]
    bench, sizes = commands[:2]
    assert bench[bench.index("--methods") + 1] == "detox,dpo" and bench[bench.index("--limit-prompts") + 1] == "30"
    assert sizes[sizes.index("--sizes") + 1] == "5,20" and sizes[sizes.index("--dpo-steps") + 1] == "20"
    assert sizes[sizes.index("--learning-rates") + 1] == "0.001"


def test_where_dpo_overtakes_is_between_the_numbers_of_pairs_where_the_means_cross():
    from detox_engine.lab.verdicts import group_points

    def crossing(last: float):
        return find_crossing(group_points(sizes_record(last=last), "pairs"), "mass")

    assert crossing(0.3) is None and crossing(0.05) == pytest.approx((5 * 40) ** 0.5)


def test_picks_are_quick_plans_and_drop_methods_that_nobody_knows(fitted):
    _, study = fitted
    picks = ClaimsPicks()
    assert picks.sample_size.plan().sizes == (10, 50, 200) and picks.sample_size.plan().training.steps == 20
    assert picks.label_noise.plan().flipped == (0.25, 0.5) and picks.dpo_link.plan().trained_steps == (10,)
    assert picks.bench.plan().evaluation.limit_prompts == 30 and picks.centring.plan().ranks == (1, 4)
    assert LinkPicks("0").plan().trained_steps == () and CentringPicks("2,2,3").plan().ranks == (2, 3)
    named = replace(picks, bench=replace(picks.bench, methods=("detox", "nobody", "dpo")))
    assert named.within(study).bench.methods == ("detox", "dpo")
