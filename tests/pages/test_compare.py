"""Compare: what a model writes before and after the edit, side by side."""

import csv
import io
import json
import math
import re
import shlex
from dataclasses import replace
from math import nan

import pytest
from typer.testing import CliRunner

from detox_engine.cli.main import app as command_line
from detox_engine.disk import write_json
from detox_engine.forward.compare import Comparison, Continuation
from detox_engine.plans.commands import STUDY
from detox_engine.plans.edit import EditPlan, effective, record_edit
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.scoring.records import (
    BROKEN,
    estimate_change,
    estimate_fluency,
    find_broken,
    record_comparisons,
    summarise,
)
from pages.compare.figure import rise, texts_figure
from pages.compare.verdict import judge_texts
from pages.compare.work import WRITING, Asked, Written, list_written, record_written
from tests.pages.conftest import LIMIT, find_results, fitted_app, open_app, run_until, texts
from ui.session import shared_models
from ui.show.colours import LIGHT
from ui.show.downloads import write_csv
from ui.show.side_by_side import chip_html, comparisons_html, describe_change, percent, summary_html

PAGE = "compare/page.py"


def open_page(folder: str, **link: object):
    session = fitted_app(folder, **({"layers": "0-2", "rank": 8} | link)).switch_page(PAGE).run()
    assert not session.exception, session.exception
    return session


def write(session, button: str = "write"):
    """Press the button and wait for what is written."""
    session.button(key=button).click().run()
    run_until(session, lambda session: "writing" not in session.session_state["jobs"] or session.error)
    assert not session.exception, session.exception
    return session


def write_own(folder: str, prompts: str, tokens: int = 6, **link: object):
    session = open_page(folder, **link)
    session.button_group(key="prompts_kind_1").set_value("own").run()
    session.text_area(key="prompts_own").set_value(prompts).run()
    session.number_input(key="compare_sampling_max_new_tokens").set_value(tokens).run()
    return write(session)


def find_written(session) -> tuple[Asked, tuple[Comparison, ...]]:
    """The latest of the session's study."""
    return find_results(WRITING, session)[-1]


def results(session) -> tuple[Comparison, ...]:
    return find_written(session)[1]


def make_side(*tokens: str, own: float = 0.5, other: float = 0.25) -> Continuation:
    count = len(tokens)
    ids = tuple(hash(token) for token in tokens)
    return Continuation("".join(tokens), tokens, ids, (own,) * count, (other,) * count)


def make_comparison(before: tuple[str, ...], after: tuple[str, ...], low=0.9, high=0.1, cut=0) -> Comparison:
    return Comparison("She is", 0, make_side(*before), make_side(*after), cut, low, high)


def test_without_a_study_the_page_offers_to_fit_one(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1).switch_page(PAGE).run()
    assert "There is no study to show yet" in texts(session)
    assert not session.button(key="fit_now").disabled
    assert all(button.key != "write" for button in session.button)


def test_before_anything_is_written_the_page_says_what_to_do(tiny_folder):
    session = open_page(tiny_folder)
    assert "Press the button" in texts(session)
    assert not session.button(key="write").disabled
    assert "layers 0-2, rank 8, strength 1" in texts(session)


def test_a_draw_of_bundled_prompts_has_the_asked_number_and_depends_on_its_seed(tiny_folder):
    session = open_page(tiny_folder)
    session.number_input(key="prompts_count_everyday").set_value(3).run()

    def listed() -> list[str]:
        return re.findall(r"<li>(.*?)</li>", re.search(r'<ol class="openings">(.*?)</ol>', texts(session))[1])

    first = listed()
    assert len(first) == 3
    session.number_input(key="prompts_seed").set_value(1).run()
    assert len(listed()) == 3 and listed() != first
    session.number_input(key="prompts_seed").set_value(0).run()
    assert listed() == first


def test_what_is_written_is_shown_side_by_side_with_its_means(tiny_folder):
    session = open_page(tiny_folder)
    session.number_input(key="prompts_count_everyday").set_value(3).run()
    session.number_input(key="compare_sampling_samples").set_value(2).run()
    session.number_input(key="compare_sampling_max_new_tokens").set_value(6).run()
    write(session)
    found, shown = results(session), texts(session)
    assert len(found) == 6
    assert shown.count('<section class="before">') == shown.count('<section class="after">') == 6
    assert "6 continuations of 3 prompts" in shown
    summary = summarise(found)
    assert f'{summary["toxicity_before"]:.3f}</b> → <b class="after">{summary["toxicity_after"]:.3f}' in shown
    changed = sum(one.first_divergence is not None for one in found)
    assert changed and f"<b>{changed}</b> of 6" in shown
    assert shown.count('class="t fork"') == 2 * changed - sum(
        one.first_divergence in (len(side.tokens) for side in (one.before, one.after)) for one in found
    )
    assert len(session.get("plotly_chart")) == 1


def test_results_and_picks_outlast_a_page_change(tiny_folder):
    session = write_own(tiny_folder, "The soup is")
    found = results(session)
    session.switch_page("spectrum/page.py").run()
    session.switch_page(PAGE).run()
    assert results(session) is found and '<section class="after">' in texts(session)
    assert session.text_area(key="prompts_own").value == "The soup is"
    assert session.number_input(key="compare_sampling_max_new_tokens").value == 6


def test_a_changed_edit_plan_is_told_and_the_results_stay_until_they_are_written_again(tiny_folder):
    session = write_own(tiny_folder, "The soup is\nThe train is")
    assert "The edit plan has changed" not in texts(session)
    old = results(session)
    strength = next(slider for slider in session.sidebar.slider if slider.label == "Strength")
    strength.set_value(0.0).run()
    assert "The edit plan has changed" in texts(session) and results(session) is old
    write(session, "write_again")
    assert "The edit plan has changed" not in texts(session)
    assert [one.prompt for one in results(session)] == [one.prompt for one in old]
    assert [one.before for one in results(session)] != [one.after for one in old]
    assert all(one.first_divergence is None for one in results(session)), "an edit of strength 0 changes nothing"
    assert texts(session).count("the same before and after") == 2


def test_a_lower_rank_writes_something_else(tiny_folder):
    session = write_own(tiny_folder, "The soup is\nThe train is\nMy neighbour", tokens=12)
    old = results(session)
    next(slider for slider in session.sidebar.slider if slider.label == "Rank").set_value(1).run()
    write(session)
    assert [one.before.text for one in results(session)] == [one.before.text for one in old]
    assert [one.after.text for one in results(session)] != [one.after.text for one in old]


def test_the_most_probable_token_leaves_no_room_for_luck(tiny_folder):
    session = open_page(tiny_folder)
    session.number_input(key="compare_sampling_seed").set_value(7).run()
    session.toggle(key="compare_sampling_greedy").set_value(True).run()
    assert session.number_input(key="compare_sampling_temperature").disabled
    session.number_input(key="prompts_count_everyday").set_value(1).run()
    write(session)
    assert find_written(session)[0].sampling == SamplingPlan(greedy=True)
    assert "always the most probable one" in texts(session)


def test_without_a_prompt_of_ones_own_nothing_can_be_started(tiny_folder):
    session = open_page(tiny_folder)
    session.button_group(key="prompts_kind_1").set_value("own").run()
    assert session.button(key="write").disabled and "Write a prompt first." in texts(session)
    session.text_area(key="prompts_own").set_value("  \n \n").run()
    assert session.button(key="write").disabled
    session.text_area(key="prompts_own").set_value("Once\n\nOnce\nTwice").run()
    assert not session.button(key="write").disabled
    assert "<li>Once</li><li>Twice</li>" in texts(session)


def test_more_tokens_than_the_context_holds_give_one_sentence_and_keep_what_was_written(tiny_folder):
    session = write_own(tiny_folder, "The soup is")
    old = results(session)
    session.number_input(key="compare_sampling_max_new_tokens").set_value(500).run()
    write(session)
    assert len(session.error) == 1 and "leave no room for a prompt" in session.error[0].value
    assert results(session) is old and '<section class="after">' in texts(session)


def test_a_plan_with_everything_switched_off_gives_one_sentence(tiny_folder):
    session = write_own(tiny_folder, "The soup is", layers="1", rank=1, off="1.0")
    assert len(session.error) == 1 and "switched off" in session.error[0].value


def test_a_prompt_longer_than_the_context_is_cut_and_said_so(tiny_folder):
    session = write_own(tiny_folder, "The soup is hot and " * 40)
    assert results(session)[0].cut > 0
    assert "One prompt was longer than the model's context" in texts(session)
    assert f"without the first {results(session)[0].cut:,} tokens" in texts(session)


def test_a_prompt_that_holds_markup_is_shown_as_text(tiny_folder):
    session = write_own(tiny_folder, "<script>alert(1)</script> **bold** $x$")
    assert "<script>alert" not in texts(session)
    assert texts(session).count("&lt;script&gt;alert(1)&lt;/script&gt; **bold** $x$") == 2


def test_rude_prompts_are_blurred_in_their_field_and_in_the_command(tiny_folder):
    session = open_page(tiny_folder)
    session.button_group(key="prompts_kind_1").set_value("own").run()
    session.text_area(key="prompts_own").set_value("The soup is").run()
    blurred = (".st-key-prompts_own textarea:not(:focus) { filter: blur", ".st-key-commands pre { filter: blur")
    assert not any(rule in texts(session) for rule in blurred)
    session.text_area(key="prompts_own").set_value("You idiot").run()
    assert all(rule in texts(session) for rule in blurred)
    session.toggle(key="show_words").set_value(True).run()
    assert not any(rule in texts(session) for rule in blurred)


def test_the_command_line_writes_the_same(tiny_folder, tmp_path):
    session = write_own(tiny_folder, "The soup is\nThe train is")
    study = tmp_path / "study"
    lines = next(code.value for code in session.get("code") if "detox compare" in code.value).splitlines()
    for line in lines:
        command = [str(study) if part == STUDY else part for part in shlex.split(line)][1:]
        outcome = CliRunner().invoke(command_line, [*command, "--device", "cpu", "--json"])
        assert outcome.exit_code == 0, outcome.output
    told = [(one["before"], one["after"]) for one in json.loads(outcome.stdout)["results"]]
    assert told == [(one.before.text, one.after.text) for one in results(session)]


def test_the_sidebar_says_what_the_directions_are_removed_from(tiny_folder):
    session = write_own(tiny_folder, "The soup is", layers="0-2", rank=2)
    first = find_written(session)
    session.segmented_control(key="edit_sites").set_value("both").run()
    assert session.query_params["sites"] == "both" and "attention too" in texts(session)
    again = find_written(write(session))
    assert (first[0].edit.sites, again[0].edit.sites) == ("mlp", "both")
    sides = [comparisons[0] for _, comparisons in (first, again)]
    assert sides[0].before.text == sides[1].before.text
    assert sides[0].after.probabilities != sides[1].after.probabilities


def test_many_prompts_come_as_a_file_that_the_command_reads(tiny_folder):
    session = open_page(tiny_folder)
    session.number_input(key="prompts_count_everyday").set_value(21).run()
    assert any("--prompts my-prompts.txt" in code.value for code in session.get("code"))
    assert "prompts_file" in [button.key for button in session.get("download_button")]
    session.number_input(key="prompts_count_everyday").set_value(20).run()
    assert "prompts_file" not in [button.key for button in session.get("download_button")]


def test_the_downloads_hold_the_texts_the_edit_and_the_sampling(tiny_folder):
    session = write_own(tiny_folder, "The soup is\nThe train is", off="1.0")
    assert {"download_json", "download_csv"} <= {button.key for button in session.get("download_button")}
    asked, found = find_written(session)
    written = Written(asked, shared_models.shelf().find_study(asked.fitted.study).model, found)
    whole = json.loads(write_json(record_written(written)))
    assert whole["edit"] == record_edit(EditPlan((0, 1, 2), 8)) | {"switched_off": [[1, 0]]}
    assert whole["sampling"]["max_new_tokens"] == 6
    assert whole["model"]["weights_hash"].startswith("sha256:")
    assert [entry["prompt"] for entry in whole["results"]] == ["The soup is", "The train is"]
    rows = list(csv.DictReader(io.StringIO(write_csv(*list_written(written)))))
    assert [row["after"] for row in rows] == [entry["after"] for entry in whole["results"]]
    assert {(row["edit_layers"], row["edit_switched_off"], row["sampling_seed"]) for row in rows} == {
        ("0-2", "[[1, 0]]", "0")
    }


def test_filters_and_orders_pick_and_sort_what_is_shown(tiny_folder):
    session = open_page(tiny_folder)
    session.number_input(key="prompts_count_everyday").set_value(12).run()
    session.number_input(key="compare_sampling_max_new_tokens").set_value(8).run()
    write(session)
    found = results(session)
    kinds = {
        "All": len(found),
        "Changed": sum(one.first_divergence is not None for one in found),
        "Unchanged": sum(one.first_divergence is None for one in found),
        "Got worse": sum(rise(one.toxicity_before, one.toxicity_after) > 0 for one in found),
        "Got milder": sum(rise(one.toxicity_before, one.toxicity_after) < 0 for one in found),
    }
    for kind, count in kinds.items():
        session.button_group(key="written_filter").set_value(kind).run()
        assert texts(session).count("<article>") == count, kind
        assert ("No continuation is of this kind." in texts(session)) == (count == 0)
    session.button_group(key="written_filter").set_value("All").run()
    session.selectbox(key="written_order").set_value("Largest drop first").run()
    chips = [float(chip) for chip in re.findall(r"toxicity ([\d.]+)</span>", texts(session))]
    drops = [before - after for before, after in zip(chips[::2], chips[1::2], strict=True)]
    assert drops == sorted(drops, reverse=True) and drops[0] > drops[-1]


def test_a_stopped_run_keeps_what_was_written_before(tiny_folder):
    session = write_own(tiny_folder, "The soup is")
    old = results(session)
    session.number_input(key="compare_sampling_max_new_tokens").set_value(100).run()
    session.number_input(key="compare_sampling_samples").set_value(100).run()
    session.button(key="write").click().run()
    session.session_state["jobs"]["writing"].stop()
    run_until(session, lambda session: "The run was stopped" in texts(session))
    assert results(session) is old and '<section class="after">' in texts(session)


def test_the_place_where_the_sides_part_is_marked_and_what_they_share_is_quiet():
    drawn = comparisons_html([make_comparison((" a", " fine", " day"), (" a", " dull", " one"))], False)
    assert drawn.count('class="t same"') == 2 and drawn.count('class="t fork"') == 2
    assert re.findall(r'class="t fork"[^>]*> (\w+)<', drawn) == ["fine", "dull"]
    assert drawn.count('class="parting"') == 2


def test_a_side_that_ends_where_the_other_goes_on_says_so():
    drawn = comparisons_html([make_comparison((" a", " day"), (" a",))], False)
    after = drawn.split('<section class="after">')[1].split("</section>")[0]
    assert "ends here" in after and 'class="parting"' in after
    assert "ends here" not in drawn.split('<section class="before">')[1].split("</section>")[0]


def test_hovering_tells_both_probabilities_in_words_with_before_first_on_both_sides():
    drawn = comparisons_html([make_comparison((" a", " fine"), (" a", " dull"))], False)
    tips = re.findall(r'data-tip="([^"]*)"', drawn)
    assert tips[1] == "50 % likely before the edit, 25 % after: 2.0 times less likely"
    assert tips[3] == "25 % likely before the edit, 50 % after: 2.0 times more likely"


def test_a_rude_word_is_marked_even_over_several_tokens_and_beside_hostile_text():
    drawn = comparisons_html([make_comparison((" an", " id", "iot", "<b>"), (" an", " id"))], False)
    assert '<span class="rude">id</span>' in drawn and '<span class="rude">iot</span>' in drawn
    assert "<b>&" not in drawn and "&lt;b&gt;" in drawn


def test_numbers_are_told_in_words():
    assert (percent(0.5), percent(0.05), percent(0.0003), percent(1e-7)) == (
        "50 %",
        "5.0 %",
        "0.030 %",
        "under 0.001 %",
    )
    assert describe_change(0.2, 0.21) == "about the same"
    assert describe_change(0.5, 0.0001) == "over 1,000 times less likely"
    assert "--toxicity: 83%" in chip_html(0.834) and "0.83" in chip_html(0.834)


def summed_up(comparisons, broken=(0, 0)) -> str:
    return summary_html(summarise(comparisons), estimate_change(comparisons), 1, 0, 1, broken)


def prompted(count: int, **sides: float) -> list[Comparison]:
    """As many prompts, each with one comparison whose toxicity falls from .9 to .1."""
    return [replace(make_comparison((" a",), (" b",), **sides), prompt=f"prompt {place}") for place in range(count)]


def test_a_mean_comes_with_its_interval_over_prompts_and_its_fluency():
    fell = summed_up(prompted(5))
    assert "0.900</b> → " in fell and "lower by 0.800 (0.800 to 0.800), n = 5 prompts" in fell, "the word has the sign"
    assert "<b>5</b> of 5" in fell and "1 milder, 0 worse, 1 about the same" in fell and "Broken continuations" in fell
    assert "no change that can be told" in summed_up(prompted(1))
    mixed = [*prompted(2), *(replace(one, prompt=f"other {one.prompt}") for one in prompted(2, low=0.1, high=0.9))]
    assert "no change that can be told: 0.000" in summed_up(mixed).replace("−", "").replace("+", "")
    assert "the edit breaks what it writes" not in summed_up(prompted(5), (1, 1))
    assert "the edit breaks what it writes" in summed_up(prompted(5), (0, 4))


def test_samples_of_a_prompt_are_one_item_of_the_interval():
    one, other = prompted(2)
    samples = [replace(one, sample=sample) for sample in range(6)]
    effect = estimate_change([*samples, replace(other, toxicity_after=0.5)])
    assert (effect.difference.n, effect.before.mean) == (2, pytest.approx(0.9))
    # A ratio of sums: six samples of one prompt weigh six times as much.
    assert effect.after.mean == pytest.approx((6 * 0.1 + 0.5) / 7)


def test_what_stammers_or_babbles_is_called_broken_and_marked():
    words = (" a", " fine", " day", " to", " walk", " in", " some", " park", " or", " wood")
    fine, salad = make_comparison(words, words[::-1]), tuple(f" {word.strip()}x" for word in words)
    stammers = replace(fine, after=make_side(*(" no",) * 20))
    babbles = replace(fine, after=make_side(*salad, other=0.5 / math.exp(BROKEN + 0.1)))
    nearly = replace(fine, after=make_side(*salad, other=0.5 / math.exp(BROKEN - 0.1)))
    comparisons = [fine, stammers, babbles, nearly]
    assert find_broken(comparisons) == [("", ""), ("", "repeats itself"), ("", "unlikely"), ("", "")]
    drawn = comparisons_html(comparisons, False, broken=find_broken(comparisons))
    assert drawn.count("chip broken") == 2
    # Neither alone would be: half of the words are repetitions, and it is a little unlikely.
    both = replace(fine, after=make_side(*[word for word in words[:6] for _ in range(2)], other=0.5 / math.exp(0.5)))
    assert find_broken([fine, fine, both])[2] == ("", "repeats itself")
    assert find_broken([fine, fine, replace(both, after=make_side(*both.after.tokens, other=0.5))])[2] == ("", "")


def test_one_odd_text_of_the_unedited_model_hides_nothing_broken():
    words = tuple(f" word{number}" for number in range(10))
    usual = make_comparison(words, words[::-1])
    odd = replace(usual, before=make_side(*words, own=0.5 / math.exp(4)))
    babbles = replace(usual, after=make_side(*words[::-1], other=0.5 / math.exp(3)))
    assert find_broken([usual, usual, odd, babbles])[3] == ("", "unlikely")


def test_an_empty_continuation_has_no_toxicity():
    comparisons = [make_comparison((" a",), (), 0.2, nan), make_comparison((" a",), (" b",), 0.3, 0.1)]
    drawn = comparisons_html(comparisons, False)
    assert drawn.count('<span class="chip empty">empty</span>') == 1 and "nan" not in drawn
    assert "0 of 2 continuations before the edit and 1 after it are empty" in summed_up(comparisons)
    assert summed_up(comparisons[:1]).count("nothing to compare") == 1


def test_the_document_repeats_the_edit_and_the_sampling():
    plan, sampling = EditPlan((4, 5), 2, switched_off=frozenset({(4, 1)})), SamplingPlan(seed=3)
    written = record_comparisons([make_comparison((" a",), (" b",))], plan, sampling)
    assert written["edit"] == {
        "layers": "4-5",
        "rank": 2,
        "strength": 1.0,
        "switched_off": [[4, 1]],
        "edit_bias": False,
        "sites": "mlp",
        "method": "detox",
    }
    assert written["sampling"]["seed"] == 3
    assert set(written["results"][0]) == {
        "prompt",
        "sample",
        "before",
        "after",
        "toxicity_before",
        "toxicity_after",
        "first_divergence",
    }
    assert json.loads(json.dumps(written)) == written


def test_plans_that_do_the_same_are_equal_whatever_is_switched_off_beyond_them():
    plan = EditPlan((1, 2), 2)
    assert effective(EditPlan((1, 2), 2, switched_off=frozenset({(0, 0), (1, 2)}))) == plan
    assert effective(EditPlan((1, 2), 2, switched_off=frozenset({(1, 1)}))) != plan


def test_the_chart_sorts_dots_into_milder_worse_and_those_that_nobody_could_call_either():
    toxicity = [(0.9, 0.2), (0.1, 0.3), (0.5, 0.5), (0.54, 0.5), (0.9, 0.0), (0.35, 0.3)]
    broken = [False] * 4 + [True, False]
    figure = texts_figure(toxicity, [(1.0, 2.0)] * 6, broken, list("abcdef"), LIGHT)
    groups = {
        "Milder (2)": ["a", "f"],
        "Worse (1)": ["b"],
        "About the same (2)": ["c", "d"],
        "Broken by the edit (1)": ["e"],
    }
    for panel in ("y", "y2"):
        assert {trace.name: list(trace.text) for trace in figure.data if trace.yaxis == panel} == groups
    assert next(trace for trace in figure.data if "Worse" in trace.name).marker.color == LIGHT.toxic
    assert figure.data[-1].y == (pytest.approx(math.exp(2)),), "how fluent it is stands beside"
    unread = texts_figure(toxicity, [(math.nan, math.nan)] * 6, broken, list("abcdef"), LIGHT)
    assert {trace.yaxis for trace in unread.data} == {"y"}


def judged(comparisons, broken=(0, 0)):
    return judge_texts(estimate_change(comparisons), estimate_fluency(comparisons), broken, len(comparisons))


def test_the_verdict_says_no_more_than_its_interval_and_never_forgets_fluency():
    fluent = [replace(one, after=make_side(" b", other=0.5)) for one in prompted(5)]
    head, verdict = judged(fluent)
    assert (head, verdict.kind) == ("Milder.", "better")
    assert "lower by 0.800 (0.800 to 0.800), n = 5 prompts" in verdict.words and "as fluent" in verdict.words
    assert judged(prompted(5, low=0.1, high=0.9))[1].kind == "worse"
    head, verdict = judged(prompted(5), (0, 4))
    assert (head, verdict.kind) == ("The edit breaks what it writes.", "worse") and "4 of 5" in verdict.words
    assert judged(prompted(1))[1].kind == "unclear", "of one prompt nothing can be told"
    hardly = judged(prompted(5, low=0.5, high=0.4995))
    assert hardly[1].kind == "unclear" and "negligible" in hardly[1].words
    assert "less fluent" in judged(prompted(5))[1].words, "twice the perplexity"
