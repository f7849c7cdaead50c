"""Model & pairs: choose, fit, watch, stop, and see the pairs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file, save_file

from detox_engine.data.bundled import INSTALL_SMOLLM2
from detox_engine.errors import InputError
from detox_engine.model.load import load_model
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import SMOLLM2, ModelSpec, PairSpec
from detox_engine.workbench import Workbench
from tests.gguf_files import save_tiny_gguf
from tests.models import save_tiny_model
from tests.pages.conftest import LIMIT, fitted_app, open_app, run_until, texts
from ui.session import kept_study, shared_models
from ui.session.view import StudyKey

ROOT = Path(__file__).parents[2]


def test_a_link_to_an_unfitted_study_says_what_to_do_and_fits_nothing_by_itself(tiny_folder):
    session = open_app(model=tiny_folder, limit=LIMIT - 1)
    assert "Nothing is fitted yet" in texts(session)
    assert not session.button(key="fit").disabled
    assert session.session_state["jobs"] == {} if "jobs" in session.session_state else True


def test_a_fit_fills_the_strip_and_suggests_an_edit(tiny_folder):
    session = fitted_app(tiny_folder)
    shown = texts(session)
    assert f"{LIMIT} pairs" in shown and "3 layers, 32 wide" in shown
    assert len(re.findall('class="(ready|doubtful)"', shown)) == 4
    assert re.search(r'<div class="what">(\d+ to )?(None|\d+) of \d+ directions stands? out<', shown)
    assert session.session_state["view"].edit is not None
    assert session.slider(key="edit_layers_3").value[1] == 2


def test_layers_that_are_no_neighbours_are_written_and_words_that_name_none_change_nothing(tiny_folder):
    session = fitted_app(tiny_folder, layers="0-2")
    session.text_input(key="edit_layer_list_3").set_value("0, 2").run()
    assert session.session_state["view"].edit.layers == (0, 2)
    assert session.slider(key="edit_layers_3").value == (0, 2)
    session.text_input(key="edit_layer_list_3").set_value("0-7").run()
    assert session.session_state["view"].edit.layers == (0, 2)
    assert session.text_input(key="edit_layer_list_3").value == "0,2"
    assert [error.value.replace("\\", "") for error in session.error] == [
        "Layer 7 is outside the model: its layers are 0-2."
    ]
    session.slider(key="edit_layers_3").set_value((1, 2)).run()
    assert session.text_input(key="edit_layer_list_3").value == "1-2" and not session.error


def pairs_table(session) -> str:
    """The list of pairs as the page sent it."""
    return next(element.proto.body for element in session.get("html") if '<table class="pairs">' in element.proto.body)


def test_toxic_words_are_blurred_until_they_are_asked_for(tiny_folder):
    session = fitted_app(tiny_folder)
    assert '<span class="rude">' in pairs_table(session)
    assert ".rude { filter: blur" in texts(session)
    session.toggle(key="show_words").set_value(True).run()
    assert ".rude { filter: blur" not in texts(session)


def test_pairs_that_do_not_isolate_toxicity_are_doubtful_on_the_strip_and_the_page_says_why(tiny_folder, monkeypatch):
    from detox_engine.study import fit
    from detox_engine.study.findings import Finding

    found = (Finding("separation", 0.5, "<b>They</b> are **alike**."), Finding("sinks", 3, "Three sinks."))
    monkeypatch.setattr(fit, "judge_pairs", lambda *arguments, **options: found)
    monkeypatch.setattr("detox_engine.workbench.judge_readability", lambda model, study, *_: study)
    session = open_app(model=tiny_folder, device="cpu", limit=LIMIT - 5)
    session.button(key="fit").click().run()
    run_until(session, lambda session: "The pairs in use" in texts(session) and not session.session_state["jobs"])
    shown = texts(session)
    assert shown.count('class="doubtful"') == 1 and shown.count('class="ready"') == 3
    assert "These pairs do not isolate toxicity (sides that do not separate)." in shown
    assert session.warning[-1].value == r"\<b\>They\<\/b\> are \*\*alike\*\*\."
    assert [box.value for box in session.info] == [r"Three sinks\."]


def test_the_filter_keeps_the_pairs_that_hold_all_its_words(tiny_folder):
    session = fitted_app(tiny_folder)
    study = shared_models.shelf().find_study(session.session_state["view"].study_key)
    word = study.pairs[0].civil.split()[-1].strip(".,!?\"'")
    session.text_input(key="pairs_filter").set_value(word).run()
    rows = pairs_table(session).split("<tr>")[2:]
    assert rows and all(word.lower() in row.lower() for row in rows)
    assert f"(filtered from {LIMIT})" in texts(session)
    session.text_input(key="pairs_filter").set_value("no pair holds this").run()
    assert "No pair holds all of these words." in texts(session)


def test_a_folder_that_is_no_model_gives_one_sentence_and_keeps_the_study(tiny_folder, tmp_path):
    session = fitted_app(tiny_folder)
    session.text_input(key="model_folder").set_value(str(tmp_path)).run()
    session.button(key="fit").click().run()
    run_until(session, lambda session: len(session.error) > 0)
    assert len(session.error) == 1 and "Traceback" not in session.error[0].value
    assert session.session_state["view"].model.name == tiny_folder
    assert 'class="failed"' in texts(session)
    assert "The study from before is still in use." in texts(session)
    session.button(key="show_study").click().run()
    assert not session.error and len(re.findall('class="(ready|doubtful)"', texts(session))) == 4


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.jsonl", b'{"toxic": "a", \n', "line 1"),
        ("latin.csv", "toxic,civil\nd\xe9bile,gentil\nb,c\n".encode("latin-1"), "UTF-8"),
        ("empty.csv", b"", "empty"),
    ],
)
def test_an_upload_that_cannot_be_read_gives_one_sentence_that_names_it(tiny_folder, name, content, said):
    session = open_app(model=tiny_folder, limit=LIMIT - 2)
    session.segmented_control(key="pairs_kind").set_value("upload").run()
    session.file_uploader(key="pairs_upload").set_value((name, content, "text/plain")).run()
    if session.error:
        shown = session.error[0].value
    else:
        session.button(key="fit").click().run()
        run_until(session, lambda session: len(session.error) > 0)
        shown = session.error[0].value
    plain = shown.replace("\\", "")
    assert said in plain and name in plain and "uploads" not in plain
    assert len(session.error) == 1


def test_unknown_columns_are_mapped_by_hand(tiny_folder):
    rows = "\n".join(f"you {word} idiot,dear {word} friend" for word in ("old", "poor", "big", "young", "good"))
    session = open_app(model=tiny_folder, limit=LIMIT - 3)
    session.segmented_control(key="pairs_kind").set_value("upload").run()
    session.file_uploader(key="pairs_upload").set_value(("mine.csv", f"rude,nice\n{rows}\n".encode(), "text/csv")).run()
    assert session.button(key="fit").disabled
    source = session.session_state["view"]["model_and_pairs.file"]
    session.selectbox(key=f"toxic_{source}").set_value("rude").run()
    session.selectbox(key=f"civil_{source}").set_value("nice").run()
    session.switch_page("spectrum/page.py").run()
    session.switch_page("model_and_pairs/page.py").run()
    assert session.selectbox(key=f"toxic_{source}").value == "rude", "pages that are left keep what was picked on them"
    session.button(key="fit").click().run()
    run_until(session, lambda session: "Pairs 1–5 of 5" in texts(session))
    pairs = session.session_state["view"].fit.pairs
    assert (pairs.toxic, pairs.civil, pairs.prompt) == ("rude", "nice", None)


def test_a_fit_can_be_stopped(tiny_folder, monkeypatch):
    import threading

    from detox_engine.study import fit

    reached, go_on = threading.Event(), threading.Event()
    embed_pairs = fit.embed_pairs

    def slow(*arguments, progress, **options):
        reached.set()
        go_on.wait(30)
        return embed_pairs(*arguments, progress=progress, **options)

    monkeypatch.setattr(fit, "embed_pairs", slow)
    session = open_app(model=tiny_folder, limit=LIMIT - 4)
    session.button(key="fit").click().run()
    assert reached.wait(30)
    session.run()
    session.button(key="stop_fit").click().run()
    go_on.set()
    run_until(session, lambda session: "The fit was stopped" in texts(session))
    assert "The pairs in use" not in texts(session)


def test_a_broken_link_is_one_sentence_and_opens_the_app_all_the_same():
    session = open_app(rank="many")
    assert len(session.error) >= 1 and "rank" in session.error[0].value
    assert session.title[0].value == "Model & pairs"


def test_the_page_shows_the_essentials_of_the_bundled_models_card():
    from pages.model_and_pairs.card import CARD, read_essentials

    introduction, figures = read_essentials()
    assert "teaching specimen" in introduction and "toxicity after/before" in figures
    assert introduction in CARD.read_text(encoding="utf-8") and figures in CARD.read_text(encoding="utf-8")
    session = open_app(limit=LIMIT)
    assert "teaching specimen" in texts(session) and "toxicity after/before" in texts(session)
    assert "moron" not in texts(session)
    session.toggle(key="show_words").set_value(True).run()
    assert "moron" in texts(session)


FIRST_PAGE = """
import sys
from streamlit.testing.v1 import AppTest
session = AppTest.from_file("pages/navigation.py", default_timeout=60)
session.query_params["limit"] = "39"
session.run()
assert not session.exception and session.title[0].value == "Overview"
print("profanity_check" in sys.modules)
"""


def test_the_first_page_is_drawn_without_the_scorer_that_takes_seconds_to_load():
    told = subprocess.run([sys.executable, "-c", FIRST_PAGE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert told.stdout.split()[-1:] == ["False"], told.stderr


def test_a_link_with_a_method_that_there_is_not_opens_and_another_can_be_fitted(tiny_folder):
    session = open_app(model=tiny_folder, methods="magic", limit=20)
    assert not session.exception and session.multiselect(key="fit_methods").value == ["detox"]
    session.multiselect(key="fit_methods").set_value(["detox", "mean-difference"]).run()
    session.button(key="fit").click().run()
    run_until(session, lambda session: "The pairs in use" in texts(session) and not session.session_state["jobs"])
    assert not session.exception and any("--methods detox,mean-difference" in block.value for block in session.code)


def make_pickled(folder):
    save_tiny_model("gpt2", folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def make_encoder(folder):
    save_tiny_model("gpt2", folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}))


def make_infinite(folder):
    save_tiny_model("gpt2", folder)
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.mlp.c_proj.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_pickled, "safetensors"),
        (make_encoder, "no causal language-model head"),
        (make_infinite, "layer 1 of the text"),
        (shutil.rmtree, "There is no folder"),
    ],
)
def test_a_model_that_cannot_be_used_gives_one_sentence_that_says_why(tmp_path, make, said):
    folder = tmp_path / "model"
    folder.mkdir()
    make(folder)
    session = open_app(model=folder, device="cpu", limit=LIMIT)
    session.button(key="fit").click().run()
    run_until(session, lambda session: len(session.error) > 0)
    assert len(session.error) == 1
    assert said in session.error[0].value.replace("\\", "") and "Traceback" not in texts(session)


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("rank", "0", "whole number, 1 or more"),
        ("strength", "nan", "finite number"),
        ("layers", "7-2", "runs backwards"),
    ],
)
def test_an_edit_that_cannot_be_in_a_link_says_what_is_allowed(tiny_folder, part, value, said):
    session = open_app(model=tiny_folder, limit=LIMIT, **{part: value})
    assert not session.exception
    assert said in texts(session).replace("\\", "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OfflineModeIsEnabled("offline"), "bundled model"),
        (GatedRepoError("gated", response=httpx2.Response(403, request=httpx2.Request("GET", "https://hub"))), "gated"),
        (
            RepositoryNotFoundError(
                "missing", response=httpx2.Response(404, request=httpx2.Request("GET", "https://hub"))
            ),
            "no public model",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_hub_model_out_of_reach_gives_one_sentence_with_the_ways_out(monkeypatch, error, said):
    def refuse(*_, **options):
        raise LocalEntryNotFoundError("not cached") if options.get("local_files_only") else error

    monkeypatch.setattr(huggingface_hub, "model_info", refuse)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    session = open_app(model="someone/model", device="cpu", limit=LIMIT)
    session.button(key="fit").click().run()
    run_until(session, lambda session: len(session.error) > 0)
    assert len(session.error) == 1
    assert said in session.error[0].value and "bundled model" in session.error[0].value


# The real model


@pytest.fixture
def smollm2(tmp_path, monkeypatch):
    """Stands in for the installed package: a tiny Llama as GGUF."""
    file = save_tiny_gguf(tmp_path / "smol.gguf")
    for module in FINDERS:
        monkeypatch.setattr(f"{module}.find_smollm2", lambda: file)
    return file


@pytest.fixture
def no_smollm2(monkeypatch):
    def missing():
        raise InputError(f"SmolLM2-135M is not installed here: install it with “{INSTALL_SMOLLM2}”.")

    for module in FINDERS:
        monkeypatch.setattr(f"{module}.find_smollm2", missing)


FINDERS = ("detox_engine.model.load", "pages.model_and_pairs.choice", "ui.session.kept_study", "ui.work.fit")


def test_the_real_model_is_offered_beside_the_bundled_one_and_can_be_fitted(tiny_folder, smollm2):
    session = fitted_app(tiny_folder)
    kinds = session.segmented_control(key="model_kind")
    assert kinds.options[:2] == ["Bundled", "SmolLM2-135M, a real model"]
    kinds.set_value("smollm2").run()
    assert "135 million" in texts(session) and any("--model smollm2" in block.value for block in session.code)
    session.button(key="fit").click().run()
    run_until(session, lambda session: session.session_state["view"].model.name == SMOLLM2)
    run_until(session, lambda session: not session.session_state["jobs"])
    assert "SmolLM2-135M" in texts(session) and "3 layers, 32 wide" in texts(session)


def test_a_link_to_the_real_model_opens_the_study_of_its_installation_at_once(smollm2):
    key = StudyKey(ModelSpec(SMOLLM2))
    plan = FitPlan(pairs=PairSpec(limit=LIMIT))
    kept_study.keep_study(key, Workbench(load_model(ModelSpec(SMOLLM2, device="cpu"))).fit(plan, keep_moments=False))
    session = open_app(model=SMOLLM2)
    run_until(session, lambda session: "The pairs in use" in texts(session))
    made = shared_models.shelf().find_study(key).made
    assert made == kept_study.read_study(key).made and session.segmented_control(key="model_kind").value == "smollm2"


def test_where_the_real_model_is_not_installed_the_page_says_how_to_and_the_study_stays(tiny_folder, no_smollm2):
    session = fitted_app(tiny_folder)
    session.segmented_control(key="model_kind").set_value("smollm2").run()
    assert INSTALL_SMOLLM2 in session.info[0].value.replace("\\", "") and not session.exception
    assert session.button(key="fit").disabled and session.session_state["view"].model.name == tiny_folder
    session.segmented_control(key="model_kind").set_value("bundled").run()
    assert not session.button(key="fit").disabled


def test_a_link_to_the_real_model_goes_on_with_the_bundled_one_where_it_is_not_installed(no_smollm2):
    session = open_app(model=SMOLLM2, limit=LIMIT)
    assert INSTALL_SMOLLM2 in session.error[0].value.replace("\\", "") and len(session.error) == 1
    assert session.session_state["view"].model == ModelSpec()
    assert session.segmented_control(key="model_kind").value == "bundled"


def test_a_gguf_file_is_chosen_as_a_folder_is(tiny_folder, tmp_path):
    file = save_tiny_gguf(tmp_path / "tiny.gguf")
    session = fitted_app(tiny_folder)
    session.text_input(key="model_folder").set_value(str(file)).run()
    session.button(key="fit").click().run()
    run_until(session, lambda session: session.session_state["view"].model.name == str(file))
    assert "tiny.gguf" in texts(session)
    again = open_app(model=file, limit=LIMIT, device="cpu")
    assert again.segmented_control(key="model_kind").value == "folder"
    assert again.text_input(key="model_folder").value == str(file)
