"""The studies that are kept on this machine: found after a restart, opened, named, held side by side, deleted."""

import json
from dataclasses import replace

import numpy as np
import pytest

from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.workbench import Workbench
from pages.model_and_pairs.beside import find_strengths, measure_overlap, share_states, tell_overlap
from pages.model_and_pairs.studies import entry_html
from tests.models import open_tiny
from tests.pages.conftest import HOSTILE, LIMIT, fitted_app, open_app, run_until, texts
from tests.pages.test_kept_results import NUMBERS, Asked
from ui.session import kept_results, library, shared_models
from ui.session.kept_results import keep_result
from ui.session.kept_study import ROOM, has_study, keep_study, read_study
from ui.session.view import Fitted, StudyKey


@pytest.fixture(scope="module")
def study():
    return Workbench(open_tiny("gpt2")).fit(FitPlan(PairSpec(limit=20), keep=3))


def key_of(folder: str, limit: int = 20) -> StudyKey:
    return StudyKey(ModelSpec(folder), FitPlan(PairSpec(limit=limit), keep=3))


def test_a_study_of_a_model_of_ones_own_is_kept_and_listed(study, tiny_folder):
    key = key_of(tiny_folder)
    assert not has_study(key) and not library.list_entries(ROOM)
    keep_study(key, study)
    (entry,) = library.list_entries(ROOM)
    assert entry.key == key and has_study(key) and read_study(key).made == study.made
    assert (entry.pairs, entry.layers, entry.made) == (20, study.layers, study.made) and entry.size > 1000


def test_a_model_whose_files_have_changed_has_no_kept_study_yet_and_the_old_one_stays(study, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    key = key_of(str(folder))
    keep_study(key, study)
    assert has_study(key)
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert not has_study(key) and len(library.list_entries(ROOM)) == 1
    (folder / "model.safetensors").unlink()
    folder.rmdir()
    assert not has_study(key)


def test_a_name_stays_when_the_study_is_fitted_again(study, tiny_folder):
    key = key_of(tiny_folder)
    keep_study(key, study)
    library.name_entry(library.list_entries(ROOM)[0], f" {HOSTILE}  mine ")
    keep_study(key, study)
    (entry,) = library.list_entries(ROOM)
    assert entry.title == f"{HOSTILE} mine"[: library.LONGEST_NAME]
    assert "<script" not in entry_html(entry, in_use=False)


def test_what_was_found_goes_with_the_last_study_that_found_it(study, tiny_folder):
    for limit in (20, 19):
        keep_study(key_of(tiny_folder, limit), study)
    keep_result(NUMBERS, study, Asked(Fitted(StudyKey(), study.made), 1), 1.0, True)
    first, second = library.list_entries(ROOM)
    assert first.results_kept == second.results_kept == 1
    library.delete_entry(first, ROOM)
    assert [entry.folder for entry in library.list_entries(ROOM)] == [second.folder] and second.results_kept == 1
    library.delete_entry(second, ROOM)
    assert not kept_results.find_folder(study).exists() and not second.folder.exists()
    with pytest.raises(InputError, match="gone"):
        library.name_entry(second, "mine")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: "{",
        lambda record: "[]",
        lambda record: json.dumps(record | {"format": 2}),
        lambda record: json.dumps(record | {"pairs": "many"}),
        lambda record: json.dumps(record | {"link": {"rank": "none"}}),
        lambda record: json.dumps(record | {"link": ["model"]}),
    ],
)
def test_what_is_no_entry_is_left_out(study, tiny_folder, spoil):
    keep_study(key_of(tiny_folder), study)
    file = library.list_entries(ROOM)[0].folder / library.ENTRY
    file.write_text(spoil(json.loads(file.read_text())))
    assert not library.list_entries(ROOM)


def test_an_entry_leads_to_no_folder_outside(study, tiny_folder):
    keep_study(key_of(tiny_folder), study)
    file = library.list_entries(ROOM)[0].folder / library.ENTRY
    file.write_text(json.dumps(json.loads(file.read_text()) | {"results": "../../../etc"}))
    (entry,) = library.list_entries(ROOM)
    assert entry.results.parent.name == kept_results.ROOM


def test_titles_tell_studies_of_the_same_model_and_pairs_apart(study, tiny_folder):
    plain = key_of(tiny_folder)
    for key in (plain, replace(plain, fit=replace(plain.fit, pooling="last"))):
        keep_study(key, study)
    titles = [entry.title for entry in library.list_entries(ROOM)]
    assert len(set(titles)) == 2 and any("pooling last" in title for title in titles)


def test_two_studies_of_one_model_share_what_they_share(study):
    assert measure_overlap((study, study), 2) == pytest.approx([1.0] * study.layers, abs=1e-5)
    others = tuple(replace(each, basis=each.basis[[2, 1, 0]]) for each in study.subspaces)
    turned = replace(study, subspaces=others)
    assert measure_overlap((study, turned), 1) == pytest.approx([0.0] * study.layers, abs=1e-5)
    assert "much the same" in tell_overlap([1.0, 0.9], 0.01, 1) and "do not agree" in tell_overlap([0.01], 0.01, 1)
    strengths = find_strengths(study)
    assert np.allclose(strengths * study.noise_thresholds, [float(each.singular_values[0]) for each in study.subspaces])
    stranger = replace(study, model=replace(study.model, weights_hash="sha256:others"))
    assert share_states((study, study)) and not share_states((study, stranger))


def forget_studies() -> None:
    """As a restart does."""
    shared_models.shelf.clear()


def test_after_a_restart_a_study_opens_from_the_list_and_two_are_held_side_by_side(tiny_folder):
    forget_studies()
    first = fitted_app(tiny_folder)
    made = first.session_state["settled"]
    assert "Studies on this machine" in texts(first)
    fitted_app(tiny_folder, pooling="last")
    forget_studies()
    session = open_app(model=tiny_folder, device="cpu", limit=LIMIT)
    run_until(session, lambda session: "The pairs in use" in texts(session) and not session.session_state["jobs"])
    assert session.session_state["settled"] == made
    entries = library.list_entries(ROOM)
    # A worker of an earlier test may have kept one more here.
    other = next(entry for entry in entries if entry.key.fit.pooling == "last")
    session.button(key=f"beside_{other.folder.name[:12]}").click().run()
    assert not session.exception, session.exception
    assert "Two studies side by side" in texts(session) and "random directions would share" in texts(session)
    session.button(key=f"open_{other.folder.name[:12]}").click().run()
    run_until(session, lambda session: not session.session_state["jobs"])
    assert session.session_state["settled"] == other.key and session.query_params["pooling"] == "last"
    mine = next(entry for entry in entries if entry.key == made)
    session.button(key=f"delete_{mine.folder.name[:12]}").click().run()
    left = [entry.key for entry in library.list_entries(ROOM)]
    assert other.key in left and made not in left and not session.exception
