"""`detox lens` and `detox map`: the engine's numbers in tables, JSON and CSV, and a sentence for every bad input."""

import csv
import io
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from detox_engine.cli import main
from detox_engine.cli.flags import load_study
from detox_engine.edit.low_rank import make_edit
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.option import sentence
from detox_engine.plans.read import MapPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.reading.map import draw_map, embed_study, project_on_paper, stack_sides
from detox_engine.reading.token_lens import project_text
from detox_engine.workbench import Workbench, fit_to_folder
from tests.cli.test_cli import PAIRS, picture, run, run_json, write_pairs
from tests.models import LAYERS, save_tiny_model

TEXT = "What an idiot! The train to the coast"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    save_tiny_model("gpt2", folder / "model")
    write_pairs(folder / "pairs.jsonl", PAIRS)
    spec, pairs = ModelSpec(str(folder / "model")), PairSpec(str(folder / "pairs.jsonl"))
    fit_to_folder(spec, FitPlan(pairs, keep=4), folder / "study")
    fit_to_folder(spec, FitPlan(pairs, keep=4, keep_embeddings=False), folder / "light")
    return folder


@pytest.fixture(scope="module")
def bench(home):
    return Workbench.load(ModelSpec(str(home / "model")))


@pytest.fixture
def refuse(home, tmp_path, monkeypatch):
    """Runs a command that must end with one sentence and exit code 2, and change nothing on disk."""

    def check(*args: object, says: str) -> None:
        before = picture(home)
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert result.stderr.count("\n") == 1 and result.stderr.endswith(".\n") and says in result.stderr, result.stderr
        assert picture(home) == before and not list(tmp_path.iterdir())

    monkeypatch.chdir(tmp_path)
    return check


def read_csv(*args: object) -> list[dict[str, str]]:
    result = run(*args, "--csv")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_lens_answers_with_the_projections_of_the_engine(home, bench):
    study = load_study(home / "study")
    found = run_json(
        "lens", home / "study", "--text", TEXT, "--layers", "0,2", "--direction", 1, "--edit-layers", 1,
        "--edit-rank", 2, "--strength", 0.5, "--switch-off", "1.0",
    )  # fmt: skip
    assert list(found) == ["text", "cut", "measure", "edit", "layers", "tokens"]
    assert (found["text"], found["cut"], found["layers"]) == (TEXT, 0, [0, 2])
    plan = EditPlan((1,), 2, 0.5, frozenset({(1, 0)}))
    assert found["measure"] == {"direction": 1} and found["edit"] == record_edit(plan)
    bases = {layer: study.subspaces[layer].basis[:2] for layer in (0, 2)}
    edit = make_edit(study.subspaces, plan)
    expected = project_text(bench.model, TEXT, bases, edit)
    assert list(found["tokens"][0]) == ["position", "id", "token", "piece", "before", "after", "sink"]
    for place, token in enumerate(found["tokens"]):
        assert token["position"] == place and token["id"] == expected.text.ids[place]
        assert token["before"] == pytest.approx(expected.along(1)[:, place].tolist(), abs=1e-4)
        assert token["after"] == pytest.approx(expected.along(1, after=True)[:, place].tolist(), abs=1e-4)
    assert any(token["before"][1] != token["after"][1] for token in found["tokens"])
    assert "".join(token["piece"] for token in found["tokens"]) == TEXT


def test_lens_measures_the_length_on_the_suggested_subspace_unless_told(home):
    study = load_study(home / "study")
    found = run_json("lens", home / "study", "--text", TEXT)
    assert found["layers"] == list(study.suggested_layers) and found["measure"] == {"rank": study.suggested_rank}
    assert found["edit"] is None and all(token["after"] is None for token in found["tokens"])
    assert all(value >= 0 for token in found["tokens"] for value in token["before"])
    partly = run_json("lens", home / "study", "--text", TEXT, "--edit-rank", 3)
    assert partly["edit"]["rank"] == 3 and partly["tokens"][-1]["after"] is not None


def test_lens_writes_a_row_of_csv_for_each_token_and_layer(home):
    rows = read_csv("lens", home / "study", "--text", TEXT, "--layers", "all", "--rank", 2, "--edit-layers", "all")
    document = run_json("lens", home / "study", "--text", TEXT, "--layers", "all", "--rank", 2, "--edit-layers", "all")
    assert len(rows) == LAYERS * len(document["tokens"])
    assert list(rows[0]) == ["position", "id", "token", "layer", "before", "after", "sink"]
    for row in rows:
        token = document["tokens"][int(row["position"])]
        assert row["token"] == token["token"]
        assert float(row["before"]) == token["before"][int(row["layer"])]
        assert float(row["after"]) == token["after"][int(row["layer"])]
    assert read_csv("lens", home / "study", "--text", TEXT)[0]["after"] == ""


def test_lens_shows_people_a_table_and_says_what_it_cut(home):
    shown = run("lens", home / "study", "--text", TEXT, "--layers", "0-1", "--edit-layers", "0")
    assert shown.exit_code == 0 and "layer 1" in shown.stdout and "→" in shown.stdout and "·t" in shown.stdout
    cut = run("lens", home / "study", "--text", "idiot " * 10_000, "--layers", 0, "--json")
    assert cut.exit_code == 0 and "cut at its end" in cut.stderr and cut.stderr.count("\n") == 1
    hostile = run("lens", home / "study", "--text", "[bold]Hey \x1b[31m\u202e<b>", "--layers", 0)
    assert hostile.exit_code == 0 and not set("\x1b\u202e") & set(hostile.stdout) and "[bold" not in hostile.stderr


def test_map_answers_with_the_places_of_the_engine(home, bench):
    study = load_study(home / "study")
    command = ("map", home / "study", "--layer", 2, "--edit-layers", "0-1", "--edit-rank", 2)
    found = run_json(*command)
    assert list(found) == ["layer", "method", "frame", "seed", "edit", "shares", "separability", "points"]
    edit = make_edit(study.subspaces, EditPlan((0, 1), 2))
    run_after = embed_study(bench.model, study, edit)
    states = [stack_sides(part, 2) for part in (study.embeddings, run_after, project_on_paper(study.embeddings, edit))]
    expected = draw_map(2, states)
    assert found["shares"] == pytest.approx(expected.shares)
    points = {(point["pair"], point["side"], point["state"]): (point["x"], point["y"]) for point in found["points"]}
    assert len(points) == len(found["points"]) == len(study.pairs) * 2 * 3
    for state, places in zip(("before", "after", "on paper"), expected.points, strict=True):
        for index in range(len(study.pairs)):
            for side, name in enumerate(("toxic", "civil")):
                assert points[index, name, state] == pytest.approx(places[side, index].tolist(), abs=1e-3)
    # Layer 2 is not edited: on paper nothing moves there, while in the edited model everything does.
    torch.testing.assert_close(expected.points[0], expected.points[2])
    assert not torch.allclose(expected.points[0], expected.points[1], atol=1e-2)
    assert list(found["separability"]) == ["before", "after", "on paper"]
    assert list(found["separability"]["before"]["auc"]) == ["mean", "low", "high", "n"]


def test_map_before_an_edit_needs_no_model(home, monkeypatch):
    monkeypatch.setattr("detox_engine.workbench.load_model", lambda *_: pytest.fail("the model was loaded"))
    found = run_json("map", home / "study")
    study = load_study(home / "study")
    assert found["layer"] == study.suggested_layers[-1] and found["edit"] is None
    assert len(found["points"]) == 2 * len(study.pairs)


def test_map_of_a_study_without_embeddings_runs_the_texts_again(home):
    kept, light = (run_json("map", home / name, "--layer", 1)["points"] for name in ("study", "light"))
    for one, other in zip(kept, light, strict=True):
        assert (one["x"], one["y"]) == pytest.approx((other["x"], other["y"]), abs=1e-3)


def test_map_writes_a_row_of_csv_for_each_text_and_shows_people_the_numbers(home):
    rows = read_csv("map", home / "study", "--layer", 0)
    assert list(rows[0]) == ["pair", "side", "state", "x", "y", "text"]
    assert rows[1]["side"] == "civil" and rows[1]["text"] == PAIRS[0]["prompt"] + PAIRS[0]["civil"]
    points = run_json("map", home / "study", "--layer", 0)["points"]
    assert [float(row["x"]) for row in rows] == [point["x"] for point in points]
    shown = run("map", home / "study", "--layer", 0, "--edit-layers", 0)
    assert shown.exit_code == 0 and "layer 0" in shown.stdout and "on paper" in shown.stdout and "PCA" in shown.stdout


def test_bad_input_gets_one_sentence(refuse, home):
    study = home / "study"
    refuse("lens", study, "--text", "  ", says="The text is empty")
    refuse("lens", study, "--text", "you \udc80", says="not UTF-8")
    refuse("lens", study, "--text", TEXT, "--layers", 9, says="its layers are 0-2")
    refuse("lens", study, "--text", TEXT, "--rank", 9, says="choose a rank of 1 to 4")
    refuse("lens", study, "--text", TEXT, "--direction", 4, says="choose one of 0-3")
    refuse("lens", study, "--text", TEXT, "--direction", 1, "--rank", 2, says="--rank")
    refuse("lens", study, "--text", TEXT, "--edit-rank", 0, says="rank must be 1 or more")
    refuse("lens", study, "--text", TEXT, "--json", "--csv", says="one of --json and --csv")
    refuse("lens", home / "nowhere", "--text", TEXT, says="is no study")
    refuse("map", study, "--layer", 3, says="its layers are 0-2")
    refuse("map", study, "--neighbours", 1, says="2 neighbours or more")
    refuse("map", study, "--edit-layers", "2-1", says="runs backwards")
    refuse("map", study, "--json", "--csv", says="one of --json and --csv")


def test_a_study_of_another_model_is_refused(refuse, home, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "model"
    save_tiny_model("opt", other)
    refuse("lens", home / "study", "--text", TEXT, "--model", other, says="other weights")
    refuse("map", home / "study", "--edit-layers", 0, "--model", other, says="other weights")


def test_options_of_the_map_have_the_sentence_and_default_of_their_plan():
    options = {flag: param for param in get_command(main.app).commands["map"].params for flag in param.opts}
    for name in ("method", "frame", "neighbours", "spread", "seed"):
        assert options[f"--{name}"].help == sentence(MapPlan, name)
        assert options[f"--{name}"].default == getattr(MapPlan(), name)
