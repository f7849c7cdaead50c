"""What the pages are made of: escaping and blurring, links, jobs, uploads, charts."""

import csv
import errno
import io
import math
import os
import threading
import time
import warnings
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from detox_engine.cli.output import show_number
from detox_engine.errors import Cancelled, InputError
from detox_engine.estimates import Control, Effect, Estimate, Tally
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.evaluation import Score
from detox_engine.scoring.scorer import Described
from detox_engine.scoring.scorers import scorers
from detox_engine.study.suggestion import Change, Check, Suggestion
from pages.model_and_pairs.strip import steps_of_job, strip_html
from pages.spectrum.figures import heatmap_figure, scaled, spectrum_figure, stability_figure
from ui.session.folders import uploads_folder, without_folder
from ui.show.colours import DARK, LIGHT, palette
from ui.show.downloads import write_csv
from ui.show.effects import changes_figure, check_figure
from ui.widgets.uploads import prune, store_upload
from ui.words import rude_words, text
from ui.words.numbers import number
from ui.words.verdicts import tell_evidence, tell_suggestion
from ui.work import jobs
from ui.work.durations import count_prompts, estimate_measuring, estimate_writing, tell_estimate
from ui.work.jobs import Job
from ui.work.known import tell_change

HOSTILE = '<script>alert(1)</script> & "quoted" \u202e\x00 you idiot'


def test_html_of_foreign_text_holds_no_markup_but_ours():
    shown = text.text_html(HOSTILE)
    assert "<script" not in shown and "&lt;script&gt;" in shown and "&quot;quoted&quot;" in shown
    assert "\x00" not in shown and "\u202e" not in shown
    assert '<span class="rude">idiot</span>' in shown


def test_a_rude_word_is_marked_across_the_tokens_it_is_made_of():
    pieces = text.pieces_html(["You ", "id", "i", "ot", ", you"])
    assert pieces == [
        "You ",
        '<span class="rude">id</span>',
        '<span class="rude">i</span>',
        '<span class="rude">ot</span>',
        ", you",
    ]


def test_masks_keep_the_first_letter_and_yield_to_the_switch():
    assert rude_words.mask("What an idiot!", shown=False) == "What an i••••!"
    assert rude_words.mask("What an idiot!", shown=True) == "What an idiot!"
    assert rude_words.mask_token("·idiot", shown=False) == "·i••••"
    assert rude_words.mask_token("·idi", shown=False) == "·i••"


def test_groups_of_people_and_everyday_words_are_never_blurred():
    for word in ("gay", "kill", "mom", "women", "Muslim", "table", "thanks"):
        assert rude_words.mask(word, shown=False) == word
        assert rude_words.mask_token(f"·{word}", shown=False) == f"·{word}"


def test_words_are_blurred_for_what_they_are_in_their_sentence():
    def blurred(sentence: str) -> list[str]:
        masked = rude_words.mask(sentence, shown=False)
        return [word for word, other in zip(sentence.split(), masked.split(), strict=True) if word != other]

    assert blurred("You bloody fool") == ["bloody", "fool"] and blurred("A bloody nose") == []
    assert blurred("Shut up now") == ["Shut", "up"] and blurred("They shut the door up there") == []
    assert blurred("The cock crowed") == [] and blurred("You cock !") == ["cock"]


def test_ends_of_words_that_stand_alone_as_tokens_are_not_blurred():
    assert [rude_words.mask_token(token, shown=False) for token in ("ing", "·sh", "ish")] == ["ing", "·sh", "ish"]
    assert rude_words.mask_token("·ass", shown=False) == "·a••"


def test_markdown_of_foreign_text_shows_its_characters():
    assert text.plain("**a** [b](c) $d$ <i>") == r"\*\*a\*\* \[b\]\(c\) \$d\$ \<i\>"


def finish(job: Job) -> Job:
    end = time.monotonic() + 20
    while job.running and time.monotonic() < end:
        time.sleep(0.01)
    return job


def test_a_job_reports_its_stages_and_result():
    def work(progress):
        progress("first", 1, 2)
        progress("first", 2, 2)
        progress("second", 0, 0)
        return "result"

    job = Job("test", None, work)
    job.start()
    snapshot = finish(job).snapshot
    assert (snapshot.state, snapshot.result) == ("done", "result")
    assert [(stage.name, stage.done, stage.total) for stage in snapshot.stages] == [("first", 2, 2), ("second", 0, 0)]
    assert all(stage.seconds is not None for stage in snapshot.stages)


def test_a_stopped_job_ends_at_its_next_report_and_has_no_result():
    reached, go_on = threading.Event(), threading.Event()

    def work(progress):
        reached.set()
        go_on.wait(20)
        progress("late", 1, 1)
        return "never"

    job = Job("test", None, work)
    job.start()
    assert reached.wait(20)
    job.stop()
    assert job.stopping
    go_on.set()
    snapshot = finish(job).snapshot
    assert (snapshot.state, snapshot.result, snapshot.error) == ("stopped", None, "")


def test_an_input_error_of_a_job_is_its_sentence_and_a_fault_of_ours_shows_no_traceback(caplog):
    def bad_input(progress):
        raise InputError("The file is empty.")

    def broken(progress):
        raise KeyError("secret")

    jobs = [Job("test", None, work) for work in (bad_input, broken)]
    for job in jobs:
        job.start()
        finish(job)
    assert jobs[0].snapshot.error == "The file is empty."
    assert jobs[1].snapshot.state == "failed" and "secret" not in jobs[1].snapshot.error
    assert "secret" in caplog.text


def test_the_strip_shows_which_step_runs_and_escapes_names():
    job = Job("fit", None, lambda progress: None)
    job._report("Loading the model", 1, 1)
    job._report("Reading pairs", 5, 5)
    job._report("Embedding texts", 30, 120)
    steps = steps_of_job(job.snapshot, "<b>model</b>", "pairs")
    assert [step.state for step in steps] == ["ready", "ready", "running", "waiting"]
    shown = strip_html(steps)
    assert "30 of 120" in shown and "width: 25%" in shown and "<b>model" not in shown


def test_an_upload_is_kept_by_its_content_under_a_harmless_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = store_upload("../../x<y>.CSV", b"a")
    assert first.read_bytes() == b"a" and first.name == "x_y_.csv"
    assert first.resolve().is_relative_to(tmp_path.resolve())
    assert store_upload("../../x<y>.CSV", b"a") == first != store_upload("../../x<y>.CSV", b"b")
    assert without_folder(f"{first}, line 3: broken.") == "x_y_.csv, line 3: broken."
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_an_upload_that_cannot_be_written_gives_a_sentence(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with pytest.raises(InputError, match="cannot be kept"):
        store_upload("x.csv", b"a")


def test_shares_sum_to_one_and_add_up():
    values = np.array([[3.0, 4.0], [1.0, 0.0]])
    assert scaled(values, "values") is values
    assert scaled(values, "shares") == pytest.approx(np.array([[0.36, 0.64], [1.0, 0.0]]))
    assert scaled(values, "cumulative") == pytest.approx(np.array([[0.36, 1.0], [1.0, 1.0]]))


NULL = np.array([[1.0, 0.9], [1.1, 1.0], [1.3, 1.2]])
"""Low, middle and high singular values of chance, for the first two ranks."""


def test_the_spectrum_colours_what_the_edit_removes():
    values = np.array([4.0, 3.0, 2.0, 1.0])
    figure = spectrum_figure(values, 4, "values", 2, 1, 3.5, NULL, LIGHT)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [(bar.name, list(bar.x), bar.marker.color) for bar in bars] == [
        ("Removed by the edit", [1, 2], LIGHT.edited),
        ("Kept", [3, 4], LIGHT.quiet),
    ]
    assert figure.layout.shapes[-1].x0 == 1.5 and figure.layout.annotations[0].text == "1 stands out"
    unedited = spectrum_figure(values, 4, "values", None, 0, 4.5, NULL, LIGHT)
    assert [bar.name for bar in unedited.data if bar.type == "bar"] == ["Kept"] and not unedited.layout.annotations


def test_shares_in_the_spectrum_are_of_all_directions_also_where_few_are_drawn():
    values = np.array([4.0, 3.0, 2.0, 1.0])
    figure = spectrum_figure(values, 2, "shares", None, 0, 4.5, NULL, LIGHT)
    assert list(figure.data[0].y) == pytest.approx([16 / 30, 9 / 30])


def test_the_noise_band_is_a_wash_up_to_a_line_in_the_units_of_the_bars():
    values = np.array([4.0, 3.0, 2.0, 1.0])
    for scale, level in (("values", 2.5), ("shares", 6.25 / 30)):
        figure = spectrum_figure(values, 4, scale, None, 2, 2.5, None, LIGHT)
        line = figure.data[-1]
        assert line.name == "Noise band" and list(line.y) == pytest.approx([level, level])
        assert (figure.layout.shapes[0].y0, figure.layout.shapes[0].y1) == pytest.approx((0, level))
        assert figure.layout.annotations[0].text == "2 stand out"
    added_up = spectrum_figure(values, 4, "cumulative", None, 2, 2.5, None, LIGHT)
    assert all(trace.type == "bar" for trace in added_up.data)


def test_the_null_band_is_in_the_units_of_the_bars():
    values = np.array([4.0, 3.0, 2.0, 1.0])
    raw = spectrum_figure(values, 4, "values", None, 0, 4.5, NULL, LIGHT).data[-1]
    assert list(raw.y) == [1.1, 1.0]
    assert list(raw.error_y.array) == pytest.approx([0.2, 0.2]) and list(raw.error_y.arrayminus) == pytest.approx(
        [0.1] * 2
    )
    shares = spectrum_figure(values, 4, "shares", None, 0, 4.5, NULL, LIGHT).data[-1]
    assert list(shares.y) == pytest.approx([1.21 / 30, 1 / 30])
    assert list(np.array(shares.y) + np.array(shares.error_y.array)) == pytest.approx([1.69 / 30, 1.44 / 30])
    added_up = spectrum_figure(values, 4, "cumulative", None, 0, 4.5, NULL, LIGHT)
    assert all(trace.type == "bar" for trace in added_up.data)


def test_stability_is_drawn_for_every_layer_with_the_edited_ones_in_their_colour():
    figure = stability_figure(np.array([5.0, 10, 50]), np.array([8.0, 20, 80]), (0, 2), LIGHT)
    edited, other = figure.data
    assert list(edited.x) == [0, 2] and edited.marker.color == LIGHT.edited
    assert list(other.y) == [10] and list(other.error_y.array) == [10]


def test_the_heatmap_frames_the_picked_layer_and_each_run_of_edited_layers():
    figure = heatmap_figure(np.ones((6, 4)), "shares", 3, (0, 1, 4), 2, DARK)
    frames = [(shape.y0, shape.y1, shape.x1, shape.line.color) for shape in figure.layout.shapes]
    assert frames == [
        (2.5, 3.5, 4.5, DARK.quiet),
        (-0.5, 1.5, 2.5, DARK.edited),
        (3.5, 4.5, 2.5, DARK.edited),
    ]


def test_the_two_themes_have_the_same_parts():
    assert replace(LIGHT, toxic="x").toxic == "x"
    assert palette("dark") is DARK and palette(None) is LIGHT
    assert len(LIGHT.ramp) == len(DARK.ramp) == 5


def test_a_suggestion_is_told_with_its_status_and_what_it_rests_on():
    def tell(suggestion: Suggestion | None) -> tuple[str, str]:
        study = SimpleNamespace(suggestion=suggestion, suggested_layers=(4, 5), suggested_rank=2)
        return tell_suggestion(study), tell_evidence(study)

    begin, why = tell(None)
    assert begin == "Starting point: layers 4-5, rank 2" and "no edit was looked for" in why
    nothing, why = tell(Suggestion(None, "gentle", "None of them earns it."))
    assert nothing == "Nothing is suggested" and "starting point" in why and why.endswith("None of them earns it.")
    untested = Suggestion(EditPlan((1, 2), 1, 0.75, method="fisher", sites="both"), "gentle", "It has the largest gap.")
    told, why = tell(untested)
    assert told.startswith("Suggested, untested: fisher, layers 1-2") and "No generation has confirmed it" in why
    down = Estimate(-0.5, -0.6, -0.4, 64)
    sides = (Estimate(0.8, 0.7, 0.9, 64), Estimate(0.2, 0.1, 0.3, 64), Estimate(0.7, 0.6, 0.8, 64))
    told, why = tell(replace(untested, check=Check((Change("mass", *sides, down, down),), 64, 2, 2, 1.0, "")))
    assert told.startswith("Suggested, confirmed") and "the probability of rude words goes from 0.8" in why


def test_old_uploads_and_the_oldest_of_too_many_are_taken_away(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = [store_upload(f"{number}.csv", bytes([number]) * 10) for number in range(4)]
    for age, file in zip((40, 3, 2, 1), files, strict=True):
        os.utime(file, (time.time() - 86_400 * age,) * 2)
    prune(uploads_folder(), most_days=30)
    assert [file.exists() for file in files] == [False, True, True, True] and not files[0].parent.exists()
    prune(uploads_folder(), most_bytes=15)
    assert [file.exists() for file in files] == [False, False, False, True]


def test_an_upload_that_is_used_again_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = store_upload("x.csv", b"a")
    os.utime(file, (0, 0))
    assert store_upload("x.csv", b"a") == file and time.time() - file.stat().st_mtime < 60


def test_a_full_disk_leaves_no_part_of_an_upload(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refuse(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("detox_engine.disk.Path.replace", refuse)
    with pytest.raises(InputError, match="x.csv cannot be kept .No space left.*make room"):
        store_upload("x.csv", b"a")
    assert not [path for path in uploads_folder().rglob("*") if path.is_file()]


def test_work_whose_session_is_gone_ends_a_while_later(monkeypatch):
    monkeypatch.setattr(jobs, "FORSAKEN_SECONDS", 0.05)
    watched = [True]
    job = Job("long", None, lambda progress: None, is_watched=lambda: watched[0])
    job._report("Working", 1, 9)
    watched[0] = False
    job._report("Working", 2, 9)
    time.sleep(0.1)
    with pytest.raises(Cancelled):
        job._report("Working", 3, 9)
    watched[0] = True
    job._report("Working", 4, 9)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(cell, monkeypatch):
    monkeypatch.delenv("DETOX_RAW_CSV", raising=False)
    read = list(csv.reader(io.StringIO(write_csv(("a", cell), [(cell, -1.5), ("plain", None)]), newline="")))
    assert read == [["a", f"'{cell}"], [f"'{cell}", "-1.5"], ["plain", ""]]
    monkeypatch.setenv("DETOX_RAW_CSV", "on")
    assert list(csv.reader(io.StringIO(write_csv(("a",), [(cell,)]), newline="")))[1] == [cell]


def test_numbers_beyond_sense_are_shown_as_such():
    written = [number(value) for value in (1e150, 2.5e6, 999_999.0, math.inf, -math.inf, math.nan)]
    assert written == ["1.0e150", "2.5e6", "999,999", "∞", "−∞", "–"]
    assert [show_number(value) for value in (1e150, math.inf, math.nan, 12.0)] == ["1.0e150", "∞", "–", "12.0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tally = Tally(np.array([[900.0], [900_000.0]]), np.ones((2, 1)), exponential=True)
        assert np.isinf(tally.scores).all()


def test_a_quick_check_is_drawn_and_told_with_its_intervals():
    def about(mean: float) -> Estimate:
        return Estimate(mean, mean - 0.1, mean + 0.1, 9)

    change = Change("profanity", about(0.5), about(0.25), about(0.5), about(-0.25), about(-0.25))
    figure = check_figure([change], LIGHT)
    assert [trace.x[0] for trace in figure.data] == [100, 50, 100], "in % of what it was"
    assert figure.data[1].error_x.array[0] == pytest.approx(20)
    assert "by −0.250 (95 %: −0.350 to −0.150, n = 9 prompts)" in tell_change(change)


def test_a_change_in_percent_falls_by_no_more_than_all_there_was():
    estimates = [Estimate(mean, mean - 0.3, mean + 0.3, 9) for mean in (0.5, 0.1, -0.4)]
    control = Control("plain", estimates[0], Estimate(0.0, -0.1, 0.1, 9), (0.5,))
    kind = scorers()["profanity"]
    score = Score(**{part.name: getattr(kind, part.name) for part in fields(Described) if part.name != "kind"} | {
        "kind": kind, "effect": Effect(*estimates, (control,))
    })  # fmt: skip
    edit = changes_figure([score], ("plain",), LIGHT).data[0]
    assert edit.x[0] == pytest.approx(-80) and edit.x[0] - edit.error_x.arrayminus[0] == pytest.approx(-100)


def test_an_estimate_grows_with_what_is_asked_and_is_left_out_where_nothing_is_known():
    study = SimpleNamespace(seconds={"embed": 10.0}, pair_count=500, model=SimpleNamespace(name="a model"))
    plan = SamplingPlan(max_new_tokens=10)
    assert estimate_writing(study, 40, plan) == pytest.approx(2 * estimate_writing(study, 20, plan))
    assert estimate_writing(study, 20, replace(plan, samples=3)) == pytest.approx(3 * estimate_writing(study, 20, plan))
    assert count_prompts("a model", EvaluationPlan(prompts="mine.txt")) is None
    assert estimate_measuring(study, EvaluationPlan(prompts="mine.txt")) == 0 and tell_estimate(0) == ""
    assert (tell_estimate(2), tell_estimate(300)) == ("a few seconds", "about 5 min")
