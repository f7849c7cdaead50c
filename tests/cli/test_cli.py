import hashlib
import io
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer import testing
from typer.main import get_command
from typer.testing import CliRunner

from detox_engine.cli import main, output
from detox_engine.cli.commands.compare import read_prompts_for
from detox_engine.cli.commands.directions import spell_token
from detox_engine.estimates import Estimate
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.option import sentence
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.shared.cluster import ClusterPlan
from detox_engine.plans.shared.tune import TunePlan
from detox_engine.plans.sources import BUNDLED, ModelSpec, PairSpec
from detox_engine.reading.causal import TokenEffect
from detox_engine.reading.lens import TokenScore
from detox_engine.study.study import Study
from detox_engine.study.suggestion import Suggestion, Tried
from tests.models import CONTEXT, HIDDEN, LAYERS, SENTENCES, save_tiny_model

# Every call builds all commands from their functions' annotations, which takes longer than most commands do.
testing._get_command = cache(get_command)

ROOT = Path(__file__).parents[2]
PAIRS = [
    {"prompt": prompt, "toxic": f" and you are {toxic}, as ever.", "civil": f" and we can {civil} together."}
    for prompt, (toxic, civil) in zip(
        SENTENCES,
        [("an idiot", "mend it"), ("a moron", "read it"), ("pathetic", "ask her"), ("crap", "wait")] * 3,
        strict=False,
    )
]


def run(*args: object, **settings):
    return CliRunner(env={"COLUMNS": "120"}).invoke(main.app, [str(arg) for arg in args], **settings)


def run_json(*args: object):
    """The document of a command that must succeed, with nothing else on standard output and nothing on error."""
    result = run(*args, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def picture(folder: Path) -> dict[str, str]:
    """Every path under a folder, with the hash of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def write_pairs(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a tiny model, pairs, prompts and a study fitted on the command line."""
    folder = tmp_path_factory.mktemp("home")
    save_tiny_model("gpt2", folder / "model")
    write_pairs(folder / "pairs.jsonl", PAIRS)
    (folder / "prompts.txt").write_text("The train is late and\n\nThe garden needs\nShe explained\n", encoding="utf-8")
    fitted = run(
        "fit", "--model", folder / "model", "--pairs", folder / "pairs.jsonl", "--out", folder / "study", "--keep", 4,
        "--no-suggest",
    )  # fmt: skip
    assert fitted.exit_code == 0, fitted.output
    return folder


@pytest.fixture
def refuse(home: Path, tmp_path: Path, monkeypatch):
    """Runs a command that must end with one sentence and exit code 2, and change nothing on disk."""

    def check(*args: object, says: str | tuple[str, ...]) -> None:
        before = picture(home), picture(tmp_path)
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert result.stderr.count("\n") == 1 and result.stderr.endswith((".\n", "”.\n")), result.stderr
        for words in (says,) if isinstance(says, str) else says:
            assert words in result.stderr
        assert (picture(home), picture(tmp_path)) == before

    monkeypatch.chdir(tmp_path)
    return check


def test_journey_answers_in_json_with_the_documented_keys(home: Path, tmp_path: Path):
    out = tmp_path / "studies" / "first"
    fitted = run_json(
        "fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", "--out", out, "--limit", 8, "--keep", 3,
        "--no-suggest",
    )  # fmt: skip
    assert list(fitted) == [
        "study", "layers", "hidden", "pairs", "tokens", "seconds", "dominant_ranks", "suggested", "reason",
        "starting_point", "findings", "isolates_toxicity"
    ]  # fmt: skip
    assert (fitted["findings"], fitted["isolates_toxicity"]) == ([], True)
    assert fitted["study"] == str(out)
    assert (fitted["layers"], fitted["hidden"], fitted["pairs"]) == (LAYERS, HIDDEN, 8)
    assert list(fitted["seconds"]) == ["load", "embed", "subspace"]
    assert fitted["dominant_ranks"] == list(Study.load(out).dominant_ranks) and max(fitted["dominant_ranks"]) <= 3
    assert fitted["suggested"] is fitted["reason"] is None and list(fitted["starting_point"]) == ["layers", "rank"]

    directions = run_json("directions", out, "--layers", "0,2", "--top", 4)
    assert [(entry["layer"], entry["direction"]) for entry in directions] == [
        (layer, direction) for layer in (0, 2) for direction in range(3)
    ]
    for entry in directions:
        assert list(entry) == [
            "layer", "direction", "singular_value", "share", "polarity", "measure", "readable", "toxic_pole",
            "civil_pole",
        ]  # fmt: skip
        assert entry["measure"] == "causal" and entry["readable"] in (True, False)
        assert 0 < entry["share"] <= 1 and 0 <= entry["polarity"] <= 1 and entry["singular_value"] > 0
        for pole, sign in (("toxic_pole", -1), ("civil_pole", 1)):
            scores = [sign * end["score"] for end in entry[pole]]
            assert len(scores) == 4 and scores == sorted(scores) and entry[pole][0]["token"]
            assert all(end["low"] <= end["score"] <= end["high"] for end in entry[pole])

    compared = run_json("compare", out, "--prompts", home / "prompts.txt", "--samples", 2, "--max-new-tokens", 6)
    assert compared["edit"] == record_edit(EditPlan((0,))) | fitted["starting_point"]
    assert [(entry["prompt"], entry["sample"]) for entry in compared["results"]] == [
        (prompt, sample)
        for prompt in ("The train is late and", "The garden needs", "She explained")
        for sample in range(2)
    ]
    for entry in compared["results"]:
        assert list(entry) == [
            "prompt", "sample", "before", "after", "toxicity_before", "toxicity_after", "first_divergence"
        ]  # fmt: skip
        assert entry["first_divergence"] is not None or entry["before"] == entry["after"]
    summary = compared["summary"]
    assert (summary["prompts"], summary["continuations"]) == (3, 6)
    for side in ("toxicity_before", "toxicity_after"):
        assert summary[side] == pytest.approx(sum(entry[side] for entry in compared["results"]) / 6)
    assert summary["changed"] == sum(entry["first_divergence"] is not None for entry in compared["results"]) / 6 > 0


def test_a_fit_that_suggests_nothing_says_why_and_what_to_do(home: Path, tmp_path: Path, refuse):
    command = ("fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", "--keep", 4, "--out")
    told = run(*command, tmp_path / "first")
    assert told.exit_code == 0 and "No edit is suggested." in told.stdout and "starting point" in told.stdout
    none = run_json(*command, tmp_path / "second", "--budget", "strong")
    assert none["suggested"] is None and "60 pairs or more" in none["reason"]
    prompt = ("--prompt", "The train", "--max-new-tokens", 2)
    compared = run("compare", tmp_path / "first", *prompt)
    assert "No edit is suggested for this study, so its starting point was taken." in compared.stderr
    assert "(the study's starting point; nothing is suggested)" in compared.stdout
    own = run("compare", tmp_path / "first", "--layers", "1", *prompt)
    assert own.stderr == "" and "suggest" not in own.stdout
    refuse("check", tmp_path / "first", says=("suggests no edit", "60 pairs or more"))
    refuse("check", home / "study", says="--suggest")


def test_a_suggestion_is_what_commands_edit_and_a_check_writes_down_what_it_finds(home: Path, tmp_path: Path):
    edit = EditPlan((1, 2), 1, 0.75, method="fisher", sites="both")
    gap = Estimate(0.5, 0.4, 0.6, 12)
    suggestion = Suggestion(edit, "gentle", "Measured.", (Tried(edit, 0.4, 0.01, gap, 0.012, 1.01),))
    replace(Study.load(home / "study"), suggestion=suggestion).save(tmp_path / "study")
    prompt = ("--prompt", "The train", "--max-new-tokens", 2)
    assert run_json("compare", tmp_path / "study", *prompt)["edit"] == record_edit(edit)
    assert "(suggested by the study, untested)" in run("compare", tmp_path / "study", *prompt).stdout
    checked = run_json("check", tmp_path / "study")
    assert checked["kl"] == 0.012 and checked["gap"]["mean"] == 0.5 and checked["status"] in ("confirmed", "refuted")
    assert [change["name"] for change in checked["check"]["changes"]] == ["profanity", "mass"]
    again = Study.load(tmp_path / "study").suggestion
    assert again.status == checked["status"] and replace(again, check=None) == suggestion


def test_fit_says_what_is_wrong_with_the_pairs_and_that_they_do_not_isolate_toxicity(home: Path, tmp_path: Path):
    rows = [{**PAIRS[0], "prompt": f"Train {number} is late,"} for number in range(6)]
    leaking = [{**row, "toxic": f"{row['prompt']}{row['toxic']}"} for row in rows[:4]]
    pairs = write_pairs(tmp_path / "pairs.jsonl", [*leaking, *rows[4:], rows[5]])
    command = ("fit", "--model", home / "model", "--pairs", pairs, "--out")
    told = run(*command, tmp_path / "first")
    assert (told.exit_code, told.stderr) == (0, "")
    in_json = run_json(*command, tmp_path / "second")
    assert [(found["kind"], found["value"]) for found in in_json["findings"]] == [("leak", 4), ("duplicates", 1)]
    assert in_json["isolates_toxicity"] is False
    lines = " ".join(told.stdout.split())
    for found in in_json["findings"]:
        assert list(found) == ["kind", "value", "sentence"] and found["sentence"] in lines
    assert "These pairs do not isolate toxicity (prompts on one side only)." in lines


def test_a_study_of_others_cannot_steer_the_terminal_by_what_it_found_out(home: Path):
    from detox_engine.cli.commands.fit import fit_table
    from detox_engine.study.findings import Finding
    from detox_engine.study.study import Study

    study = replace(Study.load(home / "study"), findings=(Finding("leak", 1, "\x1b[31mred[/red]"),))
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(fit_table(study, "study"))
    assert "<U+001B>[31mred[/red]" in console.export_text()


def test_layers_that_write_or_cancel_what_sinks_hold_are_marked(home: Path):
    from detox_engine.cli.commands.fit import fit_table
    from detox_engine.study.study import Study

    plain = Study.load(home / "study")
    assert not plain.sinks.writers
    for study, marked in ((plain, []), (replace(plain, sinks=replace(plain.sinks, writers=(1,))), ["*1"])):
        console = Console(record=True, width=120, file=io.StringIO())
        console.print(fit_table(study, "study"))
        told = console.export_text()
        assert [word for word in told.split() if word.startswith("*") and len(word) > 1] == marked
        assert ("Layers that write what attention sinks hold" in told) is bool(marked)


def test_journey_answers_people_with_tables(home: Path):
    directions = run("directions", home / "study", "--rank", 2)
    compared = run("compare", home / "study", "--layers", "1-2", "--rank", 2, "--prompt", "The garden needs")
    assert (directions.exit_code, directions.stderr, compared.exit_code, compared.stderr) == (0, "", 0, "")
    assert "toxic pole" in directions.stdout and "civil pole" in directions.stdout
    assert "layers 1-2, rank 2, strength 1." in compared.stdout and "Mean toxicity" in compared.stdout


def test_a_token_that_begins_a_word_is_told_with_its_ending():
    assert spell_token(TokenEffect(1, "·id", 1.0, 0.5, 1.5, True, ending="iot")) == "·id(iot)"
    assert spell_token(TokenScore(1, "·idiot", 1.0)) == "·idiot"


def test_fit_tells_how_many_directions_stand_out_and_which_are_more_than_chance_where_asked(home: Path, tmp_path: Path):
    asked = ("--parallel-analysis",)
    for folder, more in (("plain", ()), ("asked", asked)):
        told = run("fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", "--out", tmp_path / folder, *more)
        study = Study.load(tmp_path / folder)
        rows = [line.split() for line in told.stdout.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
        assert [int(row[1]) for row in rows[:LAYERS]] == list(study.dominant_ranks)
        assert ("more than chance" in told.stdout) == (study.null_spectra is not None) == bool(more)


def test_directions_are_read_by_the_measure_that_is_asked_for(home: Path, refuse, monkeypatch):
    asked = {
        measure: run_json("directions", home / "study", "--layers", 1, "--rank", 2, "--measure", measure)
        for measure in ("causal", "lens", "product")
    }
    for measure, found in asked.items():
        assert [(entry["layer"], entry["direction"], entry["measure"]) for entry in found] == [
            (1, 0, measure), (1, 1, measure)
        ]  # fmt: skip
    assert asked["causal"] == run_json("directions", home / "study", "--layers", 1, "--rank", 2)
    assert asked["lens"][0]["toxic_pole"] != asked["product"][0]["toxic_pole"]
    assert set(asked["lens"][0]["toxic_pole"][0]) == {"token", "score"}
    assert set(asked["causal"][0]["toxic_pole"][0]) == {"token", "score", "low", "high", "is_read", "ending"}
    monkeypatch.setattr("detox_engine.reading.lens.FEWEST_READ", 10**6)
    table = run("directions", home / "study", "--layers", 1, "--rank", 2)
    assert table.exit_code == 0 and table.stdout.count("not readable as words here") == 2
    assert run("directions", home / "study", "--measure", "cosine").exit_code == 2


def test_compare_takes_the_edit_it_is_told(home: Path):
    prompt = ("--prompt", "The garden needs", "--prompt", "She explained", "--greedy")
    asked = run_json("compare", home / "study", "--layers", "0,2", "--rank", 2, "--strength", 0.5, *prompt)
    assert asked["edit"] == record_edit(EditPlan((0, 2), 2, 0.5))
    assert {"layers": "0,2", "rank": 2, "strength": 0.5, "sites": "mlp"}.items() <= asked["edit"].items()
    nothing = run_json("compare", home / "study", "--layers", "all", "--strength", 0, *prompt)
    assert nothing["summary"]["changed"] == 0
    assert all(entry["before"] == entry["after"] for entry in nothing["results"])


def test_compare_edits_attention_where_it_is_told(home: Path):
    command = ("compare", home / "study", "--layers", "all", "--rank", 2, "--prompt", "The garden needs", "--greedy")
    told = {sites: run_json(*command, "--sites", sites) for sites in ("mlp", "attention", "both")}
    assert all(found["edit"]["sites"] == sites for sites, found in told.items())
    assert len({found["results"][0]["after"] for found in told.values()}) == 3


def test_compare_leaves_a_switched_off_direction_in_place(home: Path, refuse):
    command = ("compare", home / "study", "--layers", "0,2", "--rank", 2, "--prompt", "The garden needs")
    asked = run_json(*command, "--switch-off", "0.1,2.0")
    assert asked["edit"] == record_edit(EditPlan((0, 2), 2)) | {"switched_off": [[0, 1], [2, 0]]}
    refuse(*command, "--switch-off", "1.0", says="1.0")
    refuse(*command, "--switch-off", "0.2", says="0.2")
    refuse(*command, "--switch-off", "layer 2", says="layer.direction")


def test_same_seed_writes_the_same_and_another_seed_something_else(home: Path):
    command = ("compare", home / "study", "--prompts", home / "prompts.txt", "--limit-prompts", 2)
    first, again, other = (run_json(*command, "--seed", seed)["results"] for seed in (1, 1, 2))
    assert len(first) == 2 and first == again
    assert [entry["before"] for entry in first] != [entry["before"] for entry in other]


def test_bundled_prompts_depend_on_the_model(home: Path):
    bundled = read_prompts_for(str(home / "model"), None, BUNDLED)
    assert bundled == tuple((ROOT / "assets/everyday/challenge_prompts.txt").read_text(encoding="utf-8").splitlines())
    from detox_engine.data.bundled import bundled_prompts

    assert bundled_prompts(BUNDLED).parent == ROOT / "assets/demo"


def test_study_reads_from_any_folder_and_without_embeddings(home: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(home)
    run_json("fit", "--model", "model", "--pairs", "pairs.jsonl", "--out", tmp_path / "slim", "--no-embeddings")
    assert not (tmp_path / "slim" / "embeddings.safetensors").exists()
    monkeypatch.chdir(tmp_path)
    assert run_json("directions", "slim", "--top", 1)


def test_bad_rows_among_good_ones_are_reported_and_not_fatal(tmp_path: Path, home: Path):
    pairs = write_pairs(tmp_path / "pairs.jsonl", [*PAIRS[:3], {"toxic": "no civil side"}, *PAIRS[3:]])
    result = run("fit", "--model", home / "model", "--pairs", pairs, "--out", tmp_path / "study", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["pairs"] == len(PAIRS)
    assert "line 4" in result.stderr


def test_long_prompts_are_cut_and_the_command_says_so(home: Path):
    result = run("compare", home / "study", "--prompt", "the soup " * CONTEXT, "--prompt", "The train", "--json")
    assert result.exit_code == 0, result.output
    assert "cut from the left" in result.stderr and "1 of 2" in result.stderr
    assert len(json.loads(result.stdout)["results"]) == 2


BAD_PAIRS = {
    "empty": (b"", "empty"),
    "not UTF-8": ('{"toxic": "crétin", "civil": "ami"}\n'.encode("latin-1"), "UTF-8"),
    "broken JSON": (b'{"toxic": "crap"\n', "line 1"),
    "a column is missing": (b'{"toxic": "crap", "kind": "fine"}\n' * 2, "civil"),
    "cells without text": (b'{"toxic": null, "civil": "fine"}\n{"toxic": 7, "civil": "fine"}\n', "line"),
    "a single pair": (b'{"toxic": "crap", "civil": "fine"}\n', "two"),
    "identical sides": (b'{"toxic": "fine", "civil": "fine"}\n' * 2, "same"),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_unusable_pairs_get_one_sentence(refuse, home: Path, tmp_path: Path, name: str):
    content, says = BAD_PAIRS[name]
    (tmp_path / "bad.jsonl").write_bytes(content)
    refuse(
        "fit", "--model", home / "model", "--pairs", "bad.jsonl", "--out", "study", "--json", says=("bad.jsonl", says)
    )


def test_missing_pairs_and_columns_get_one_sentence(refuse, home: Path):
    command = ("fit", "--model", home / "model", "--out", "study")
    refuse(*command, "--pairs", "nowhere.jsonl", says="nowhere.jsonl")
    refuse(*command, "--pairs", home / "pairs.jsonl", "--toxic-column", "rude", "--civil-column", "civil", says="rude")
    refuse(*command, "--pairs", home / "pairs.jsonl", "--limit", 1, says="at least two")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--layers", "7", f"0-{LAYERS - 1}"),
        ("--layers", "2-1", "backwards"),
        ("--layers", "upper", "4-7, 3, all"),
        ("--rank", 0, "1 or more"),
        ("--rank", 5, "1 to 4"),
        ("--strength", "nan", "finite"),
        ("--strength", "inf", "finite"),
        ("--temperature", 0, "above 0"),
        ("--top-p", 1.5, "at most at 1"),
        ("--samples", 0, "at least 1"),
        ("--device", "toaster", "toaster"),
        ("--dtype", "float99", "float99"),
    ],
)
def test_edits_and_plans_out_of_range_name_the_range(refuse, home: Path, option: str, value: object, says: str):
    refuse("compare", home / "study", "--prompt", "Hi", "--json", option, value, says=says)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((), "one way"),
        (("--prompt", "Hi", "--prompts", "bundled"), "one way"),
        (("--prompt", " "), "empty"),
        (("--prompt", "caf\udce9"), "UTF-8"),
        (("--prompts", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_unusable_prompts_get_one_sentence(refuse, home: Path, given: tuple[str, ...], says: str):
    refuse("compare", home / "study", *given, says=says)


def test_unusable_models_get_one_sentence(refuse, home: Path, tmp_path: Path):
    command = ("fit", "--pairs", home / "pairs.jsonl", "--out", "study", "--model")
    refuse(*command, "./nowhere", says="./nowhere")
    (tmp_path / "empty").mkdir()
    refuse(*command, "empty", says="config.json")
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForMaskedLM"]}')
    refuse(*command, "encoder", says="causal")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((home / "model" / "config.json").read_bytes())
    torch.save({}, pickled / "pytorch_model.bin")
    refuse(*command, "pickled", says="safetensors")


def test_model_that_the_hub_cannot_give_gets_the_ways_out(refuse, home: Path, monkeypatch):
    monkeypatch.setattr("detox_engine.model.hub.huggingface_hub.model_info", unreachable)
    refuse("fit", "--model", "nobody/nothing", "--out", "study", says=("nobody/nothing", "bundled"))


def unreachable(*args, **settings):
    raise ConnectionError("no network")


def test_model_with_broken_weights_names_the_layer_and_the_text(refuse, home: Path, tmp_path: Path):
    save_tiny_model("gpt2", tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["transformer.h.1.mlp.c_proj.bias"][0] = float("nan")
    save_file(weights, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    command = ("fit", "--model", "broken", "--pairs", home / "pairs.jsonl", "--out", "study")
    refuse(*command, says=("layer 1", "“", "NaN"))


def test_study_of_another_model_says_which_differ(refuse, home: Path, tmp_path: Path):
    save_tiny_model("opt", tmp_path / "other")
    refuse("directions", home / "study", "--model", "other", says=("other weights", str(home / "model"), "other”"))


def test_study_that_is_missing_or_broken_gets_one_sentence(refuse, tmp_path: Path):
    refuse("directions", "nowhere", says="nowhere is no study")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "study.json").write_text("{}")
    refuse("compare", "half", "--prompt", "Hi", says="incomplete or broken")
    refuse("directions", "x" * 300, says="x" * 300)


def test_fit_refuses_a_folder_that_exists_before_any_work(refuse, home: Path, monkeypatch):
    monkeypatch.setattr("detox_engine.workbench.load_model", lambda *_: pytest.fail("the model was loaded"))
    refuse("fit", "--model", home / "model", "--out", home / "study", says="exists already")


@pytest.mark.parametrize("form", ["adapter", "model"])
def test_an_edit_is_exported_and_the_folder_verified(home: Path, tmp_path: Path, form: str):
    edit = ("--layers", "1-2", "--rank", 2, "--strength", 0.5)
    written = run_json("export", home / "study", *edit, "--as", form, "--licence", "mit", "--out", tmp_path / "out")
    assert written["form"] == form and (written["edit"]["layers"], written["edit"]["strength"]) == ("1-2", 0.5)
    assert set(written["files"]) == {path.name for path in (tmp_path / "out").iterdir()}
    verified = run_json("verify", tmp_path / "out", "--base", home / "model")
    assert [(claim["name"], claim["holds"]) for claim in verified["claims"]] == [
        ("files", True), ("base", True), ("edit", True), (form, True),
    ]  # fmt: skip
    (tmp_path / "out" / "README.md").write_text("Something else.")
    refuted = run("verify", tmp_path / "out", "--base", home / "model")
    assert refuted.exit_code == 1 and "README.md" in refuted.stdout and "NO" in refuted.stdout


def test_bad_exports_and_folders_of_something_else_are_one_sentence(refuse, home: Path):
    refuse("export", home / "study", "--out", home / "study", says="exists already")
    refuse("export", home / "study", "--layers", 9, "--out", "out", says="9")
    refuse("export", home / "study", "--strength", 0, "--out", "out", says="changes nothing")
    refuse("verify", home / "study", "--base", home / "model", says="detox_receipt.json")


def test_pairs_are_added_to_a_study_in_a_new_folder(home: Path, tmp_path: Path):
    """Notes go to standard error, where few pairs leave none."""
    few = write_pairs(tmp_path / "few.jsonl", PAIRS[:5])
    more = write_pairs(tmp_path / "more.jsonl", PAIRS[5:])
    fitted = run_json("fit", "--model", home / "model", "--pairs", few, "--out", tmp_path / "first", "--keep", 4)
    before = picture(tmp_path / "first")
    extended = run_json("extend", tmp_path / "first", "--pairs", more, "--out", tmp_path / "second")
    assert list(extended) == list(fitted) and extended["study"] == str(tmp_path / "second")
    assert (fitted["pairs"], extended["pairs"]) == (5, len(PAIRS))
    assert picture(tmp_path / "first") == before
    whole = json.loads((home / "study" / "study.json").read_text(encoding="utf-8"))
    record = json.loads((tmp_path / "second" / "study.json").read_text(encoding="utf-8"))
    assert record["pairs"]["hash"] == whole["pairs"]["hash"] and record["tokens"] == whole["tokens"]
    assert [spec["source"] for spec in record["added"]] == [str(more)]
    found, expected = (load_file(folder / "subspaces.safetensors") for folder in (tmp_path / "second", home / "study"))
    for name in ("layers.0.singular_values", "layers.2.mean_direction"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)


def test_pairs_that_cannot_be_added_get_one_sentence(refuse, home: Path, tmp_path: Path):
    command = ("extend", home / "study", "--out", "new", "--pairs")
    refuse(*command, "nowhere.jsonl", says="nowhere.jsonl")
    refuse("extend", home / "study", "--pairs", home / "pairs.jsonl", "--out", home / "study", says="exists already")
    save_tiny_model("opt", tmp_path / "other")
    refuse(*command, home / "pairs.jsonl", "--model", "other", says="other weights")
    lean = ("--out", tmp_path / "lean", "--no-embeddings", "--keep", 4)
    assert run("fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", *lean).exit_code == 0
    refuse("extend", "lean", "--pairs", home / "pairs.jsonl", "--out", "new", says="none can be added")


@pytest.mark.parametrize("moment", ["detox_engine.study.study.save_file", "detox_engine.study.fit.fit_subspaces"])
def test_interrupted_fit_leaves_nothing(home: Path, tmp_path: Path, monkeypatch, moment: str):
    def interrupt(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(moment, interrupt)
    result = run(
        "fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", "--out", tmp_path / "study", "--json"
    )
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.startswith("Stopped") and result.stderr.count("\n") == 1
    assert picture(tmp_path) == {}


def test_failed_fit_leaves_nothing(home: Path, tmp_path: Path, monkeypatch):
    def fail(*args, **settings):
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr("detox_engine.study.study.save_file", fail)
    result = run("fit", "--model", home / "model", "--pairs", home / "pairs.jsonl", "--out", tmp_path / "study")
    assert result.exit_code == 1 and str(result.exception) == "a fault of our own"
    assert picture(tmp_path) == {}


def test_text_from_others_cannot_steer_the_terminal(home: Path):
    hostile = "[bold]Hey[/bold] \x1b[31m\x07<script> \u202eyou"
    table = run("compare", home / "study", "--prompt", hostile, "--max-new-tokens", 2)
    assert "[bold]Hey[/bold]" in table.stdout and "<U+001B>" in table.stdout and "<U+202E>" in table.stdout
    assert not set("\x1b\x07\u202e") & set(table.output)
    refused = run("directions", f"\x1b]0;{hostile}")
    assert refused.exit_code == 2 and "<U+001B>]0;[bold]Hey" in refused.stderr and "\x1b" not in refused.stderr
    assert run_json("compare", home / "study", "--prompt", hostile)["results"][0]["prompt"] == hostile


def test_printable_keeps_words_of_every_script():
    text = "naïve café, 日本\u3000語, می\u200cخواهم, 👩\u200d🚒"
    assert output.printable(text) == text
    assert output.printable("a\nb\tc\r\ud800") == "a↵b⇥c<U+000D><U+D800>"


def test_json_has_null_for_what_is_no_number(capsys):
    output.print_json({"a": [float("nan"), 1.5], "b": float("-inf"), "text": "Zoë"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": [None, 1.5], "b": None, "text": "Zoë"} and "Zoë" in printed


PLACED = {"--device": (ModelSpec, "device"), "--dtype": (ModelSpec, "dtype")}
SHARED_OUT = {"--cluster": (ClusterPlan, "cluster"), "--workers": (ClusterPlan, "workers")}
OPTIONS = {
    "fit": {
        "--model": (ModelSpec, "name"),
        "--revision": (ModelSpec, "revision"),
        **PLACED,
        "--device-map": (ModelSpec, "device_map"),
        "--pairs": (PairSpec, "source"),
        "--toxic-column": (PairSpec, "toxic"),
        "--civil-column": (PairSpec, "civil"),
        "--prompt-column": (PairSpec, "prompt"),
        "--subset": (PairSpec, "subset"),
        "--split": (PairSpec, "split"),
        "--pairs-revision": (PairSpec, "revision"),
        "--limit": (PairSpec, "limit"),
        "--seed": (PairSpec, "seed"),
        "--max-length": (FitPlan, "max_length"),
        "--pooling": (FitPlan, "pooling"),
        "--sinks": (FitPlan, "sinks"),
        "--methods": (FitPlan, "methods"),
        "--keep": (FitPlan, "keep"),
        "--no-embeddings": (FitPlan, "keep_embeddings"),
        "--parallel-analysis": (FitPlan, "parallel_analysis"),
        "--suggest": (FitPlan, "suggest"),
        "--budget": (FitPlan, "budget"),
        **SHARED_OUT,
    },
    **dict.fromkeys(("sweep", "evaluate", "auto"), SHARED_OUT),
    "tune": {
        "--trials": (TunePlan, "trials"),
        "--budget": (TunePlan, "budget"),
        "--seed": (TunePlan, "seed"),
        **PLACED,
        "--device-map": (ModelSpec, "device_map"),
    },
    "directions": PLACED,
    "compare": {
        "--max-new-tokens": (SamplingPlan, "max_new_tokens"),
        "--samples": (SamplingPlan, "samples"),
        "--greedy": (SamplingPlan, "greedy"),
        "--chat": (SamplingPlan, "chat"),
        "--temperature": (SamplingPlan, "temperature"),
        "--top-p": (SamplingPlan, "top_p"),
        "--seed": (SamplingPlan, "seed"),
        **PLACED,
    },
}
SUGGESTED = {
    "--layers": (EditPlan, "layers"),
    "--rank": (EditPlan, "rank"),
    "--strength": (EditPlan, "strength"),
    "--method": (EditPlan, "method"),
}


@pytest.mark.parametrize("command", OPTIONS)
def test_options_have_the_sentence_and_default_of_their_plan(command: str):
    options = {
        flag: param
        for param in get_command(main.app).commands[command].params
        for flag in (*param.opts, *param.secondary_opts)
    }
    for flag, (plan, name) in OPTIONS[command].items():
        assert options[flag].help.startswith(sentence(plan, name))
        usual = getattr(plan(), name)
        names = isinstance(usual, tuple) and ",".join(choice.name for choice in usual)
        assert options[flag].default == (names or usual)
    if command == "compare":
        assert all(options[flag].help == sentence(*place) for flag, place in SUGGESTED.items())


def test_fit_and_compare_offer_every_option_of_their_plans():
    for command, plans in (("fit", (ModelSpec, PairSpec, FitPlan, ClusterPlan)), ("compare", (SamplingPlan,))):
        offered = set(OPTIONS[command].values())
        assert all((plan, field.name) in offered for plan in plans for field in fields(plan) if field.name != "pairs")


def test_every_option_of_every_command_is_explained():
    for name, command in get_command(main.app).commands.items():
        assert command.help.endswith("."), name
        assert all(param.help and param.help.endswith(".") for param in command.params if param.name != "help"), name


def test_help_answers_without_the_heavy_libraries():
    heavy = {"torch", "transformers", "pandas", "streamlit"}
    code = f"import sys, detox_engine.cli.main; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout == "set()\n"
    helped = subprocess.run([sys.executable, "-m", "detox_engine", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert helped.returncode == 0 and "Usage: detox " in helped.stdout


def start(*args: object, **settings) -> subprocess.Popen:
    added = {"PYTHONPATH": str(ROOT), "STREAMLIT_SERVER_HEADLESS": "true"}
    environment = {**os.environ, **added, **settings.pop("env", {})}
    command = [sys.executable, "-m", "detox_engine", *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True, **settings)


def test_progress_shows_on_a_terminal_and_leaves_standard_output_to_json(home: Path, tmp_path: Path):
    terminal, error = pty.openpty()
    # An encoding without the tokens' characters, as on a machine without a locale.
    process = start(
        "compare", home / "study", "--prompt", "Zoë said", "--json", stderr=error, cwd=tmp_path,
        env={"PYTHONIOENCODING": "ascii", "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(error)
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # how Linux says that the last writer is gone
        pass
    os.close(terminal)
    document = json.loads(process.communicate(timeout=60)[0].decode())
    assert process.returncode == 0 and document["results"][0]["prompt"] == "Zoë said"
    assert b"Loading the model" in shown


def test_bare_process_ends_with_one_sentence_and_no_traceback(home: Path, tmp_path: Path):
    process = start("compare", home / "study", "--prompt", "Hi", "--top-p", 2, stderr=subprocess.PIPE, cwd=tmp_path)
    printed, complained = process.communicate(timeout=60)
    assert (process.returncode, printed) == (2, b"")
    assert complained.decode().count("\n") == 1 and "Top-p" in complained.decode()


def test_app_starts_the_dashboard_from_any_folder_and_stops_on_ctrl_c(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    process = start("app", "--port", port, stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        wait_until_healthy(process, f"http://localhost:{port}/_stcore/health")
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode in (0, 130)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_until_healthy(process: subprocess.Popen, address: str) -> None:
    for _ in range(600):
        assert process.poll() is None, process.communicate()
        try:
            assert urllib.request.urlopen(address, timeout=5).read() == b"ok"
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the dashboard did not answer")


def test_methods_are_held_against_one_another_and_fitted_on_wrong_labels(home: Path, tmp_path: Path):
    brief = (
        "--prompts", home / "prompts.txt", "--neutral", home / "prompts.txt", "--max-new-tokens", 2, "--layers", "1",
        "--resamples", 100, "--scorers", "profanity",
    )  # fmt: skip
    training = ("--dpo-steps", 2, "--learning-rates", "1e-3")
    found = run_json("bench", home / "study", *brief, *training)
    made = list(found["methods"])
    assert made[:3] == ["detox", "fisher", "mean-difference"] and {"leace", "gloss", "banned-words", "dpo"} <= set(made)
    assert found["wanted"] == 0.015 and found["also"][0]["cost"] == "perplexity"
    assert {"strength", "kl", "perplexity", "reached"} == found["methods"]["detox"]["cost"].keys()
    assert json.loads((home / "study" / "lab" / "bench.json").read_text()) == found
    shown = run("bench", home / "study", "--methods", "detox", "--cost", "kl", *brief)
    assert "random" in shown.stdout and "This takes about" in shown.stderr
    out = ("--out", tmp_path / "lab.jsonl", "--methods", "detox,mean-difference")
    points = run_json("lab", "label-noise", home / "study", *brief, *out, "--flipped", "0.5", "--draws", 1)
    assert [(each["method"], each["flipped"]) for each in points] == [
        (method, share) for share in (0.0, 0.5) for method in ("detox", "mean-difference")
    ]
    shown = run("lab", "label-noise", home / "study", *brief, *out, "--flipped", "0.5", "--draws", 1)
    assert "50%" in shown.stdout and shown.exit_code == 0
    sizes = run("lab", "sample-size", home / "study", *brief, *out, "--sizes", "3", "--draws", 1, "--csv")
    assert sizes.exit_code == 0 and sizes.stdout.startswith("method,pairs,flipped,draw,rank,matched,strength,kl")
    centred = run_json("lab", "centring", home / "study", *brief, *out[:2], "--ranks", "1")
    assert [(each["method"], each["matched"]) for each in centred] == [
        (method, matched) for method in ("detox", "uncentred") for matched in (False, True)
    ]
    assert {file.name for file in (tmp_path / "lab").glob("*.json")} == {
        "label-noise.json",
        "sample-size.json",
        "centring.json",
    }
    refused = run("bench", home / "study", "--methods", "kindness", *brief)
    assert refused.exit_code == 2 and "There is no method “kindness”" in refused.stderr
    both = run("bench", home / "study", "--control", "both", *brief)
    assert both.exit_code == 2 and "leave out --control" in both.stderr
    assert "--sizes" not in run("lab", "label-noise", "--help").stdout


def test_the_link_to_dpo_gives_each_layer_its_share_and_trains_only_with_trl(home: Path, monkeypatch):
    asked = ("--few", 2, "--draws", 1, "--random", 20)
    found = run_json("lab", "dpo-link", home / "study", *asked, "--at-steps", "2")
    shares = {"inside", "random", "random_low", "random_high", "mean_difference"}
    assert all(shares <= layer.keys() for layer in found["layers"]) and found["along_training"][0]["step"] == 2
    table = run("lab", "dpo-link", home / "study", *asked, "--at-steps", "0", "--csv")
    assert table.stdout.startswith("layer,inside,random") and len(table.stdout.splitlines()) == 1 + len(found["layers"])
    assert "first gradient" in run("lab", "dpo-link", home / "study", *asked, "--at-steps", "0").stdout
    monkeypatch.setattr("detox_engine.lab.dpo.find_spec", lambda name: None)
    missing = run("lab", "dpo-link", home / "study", *asked, "--at-steps", "2")
    assert missing.exit_code == 2 and "pip install 'detox-explorer[dpo]'" in missing.stderr
