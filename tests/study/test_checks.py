"""A study of somebody else is read or refused in one sentence, whatever stands in it, and never taken for another."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from safetensors.torch import load_file, save_file

from detox_engine.disk import hash_file
from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import ModelSpec
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.fuzz import EXAMPLES, anything
from tests.models import HIDDEN, LAYERS, open_tiny
from tests.planted import planted_pairs, write_pairs

RECORD, TENSORS = "study.json", "subspaces.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A study with everything in it."""
    folder = tmp_path_factory.mktemp("studies")
    bench = Workbench(open_tiny("gpt2"))
    plan = FitPlan(write_pairs(folder / "pairs.jsonl", planted_pairs(40)), keep=4)
    bench.fit_and_suggest(plan).save(folder / "study")
    assert Study.load(folder / "study").suggestion is not None and ModelSpec
    return folder / "study"


@pytest.fixture
def study(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "study"))


def change(folder: Path, name: str, forge: bool = True) -> None:
    """Let the record fit a file that was changed, as a forger would."""
    record = json.loads((folder / RECORD).read_text())
    if forge and name in record["files"]:
        record["files"][name] = f"sha256:{hash_file(folder / name)}"
    (folder / RECORD).write_text(json.dumps(record))


def refuse(folder: Path, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        Study.load(folder)
    told = str(error.value)
    assert "\n" not in told and len(told) < 900 and "Traceback" not in told


@pytest.mark.parametrize(
    "name", ["subspaces.safetensors", "embeddings.safetensors", "pairs.jsonl", "tokens.safetensors"]
)
def test_a_file_that_was_swapped_or_taken_away_is_told(study, name):
    content = (study / name).read_bytes()
    (study / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refuse(study, f"{name} is not the file that was written")
    (study / name).unlink()
    refuse(study, f"{name} is missing")


@pytest.mark.parametrize(
    ("key", "make", "says"),
    [
        ("layers.1.basis", lambda basis: basis * float("nan"), "hold what is no number"),
        ("layers.1.basis", torch.zeros_like, "not orthonormal"),
        ("layers.1.basis", lambda basis: 2 * basis, "not orthonormal"),
        ("layers.1.basis", lambda basis: basis.T.contiguous(), "are \\[32, 4\\] float32, not"),
        ("layers.1.basis", lambda basis: basis[:, :8].contiguous(), "are \\[4, 8\\] float32, not"),
        ("layers.1.basis", lambda basis: basis.double(), "float64"),
        ("layers.1.basis", lambda basis: basis[:0].contiguous(), "0 directions"),
        ("layers.1.basis", lambda basis: torch.eye(HIDDEN), "32 directions"),
        ("layers.0.singular_values", lambda values: -values, "below 0"),
        ("layers.0.singular_values", lambda values: values[:1].clone(), "too few"),
        ("layers.2.mean_direction", lambda mean: mean[:3].clone(), "the mean direction"),
        ("layers.2.polarity", lambda polarity: polarity * float("inf"), "the polarities"),
        ("methods.fisher.layers.0.basis", lambda basis: 3 * basis, "of fisher at layer 0 are not orthonormal"),
        ("sinks.centres", lambda centres: centres[:1].clone(), "the centres of the sinks"),
        ("sinks.dimensions", lambda places: torch.tensor([99]), "outside the hidden size"),
    ],
)
def test_tensors_that_no_fit_makes_are_told_even_with_a_record_that_fits(study, key, make, says):
    tensors = load_file(study / TENSORS)
    save_file(tensors | {key: make(tensors[key])}, study / TENSORS)
    change(study, TENSORS)
    refuse(study, says)


@pytest.mark.parametrize("name", ["toxic", "civil", "lengths"])
def test_embeddings_of_other_pairs_are_told(study, name):
    parts = load_file(study / "embeddings.safetensors")
    save_file(parts | {name: parts[name][:, 1:].contiguous()}, study / "embeddings.safetensors")
    change(study, "embeddings.safetensors")
    refuse(study, "embeddings|lengths")


def test_pairs_that_were_not_fitted_on_are_told(study):
    lines = (study / "pairs.jsonl").read_text().splitlines()
    first = json.loads(lines[0]) | {"toxic": "something else"}
    (study / "pairs.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    change(study, "pairs.jsonl")
    refuse(study, "not those that it was fitted on")
    (study / "pairs.jsonl").write_text("")
    change(study, "pairs.jsonl")
    refuse(study, "embeddings|pairs")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("model", "layers"), 10**9, "model.layers"),
        (("model", "layers"), "3", "model.layers"),
        (("model", "hidden"), -1, "model.hidden"),
        (("model", "hidden"), HIDDEN + 1, "not \\[4, 33\\]"),
        (("model", "layers"), LAYERS + 1, "missing|not contain|layers"),
        (("model", "weights_hash"), "md5:1", "weights_hash"),
        (("plan", "pooling"), "median", "plan.pooling"),
        (("plan", "methods"), [{"name": "nothing"}], "missing|not contain|tensor"),
        (("pairs", "count"), 1, "1 were fitted on|pairs"),
        (("suggested", "rank"), 99, "suggested rank 99"),
        (("suggested", "layers"), "9-1", "backwards"),
        (("noise_thresholds",), [float("nan")] * 3, "noise_thresholds"),
        (("noise_thresholds",), [1.0], "1 noise thresholds"),
        (("tokens",), 1.5, "tokens"),
        (("versions",), [], "versions"),
        (("findings",), [{"kind": "x"}], "findings.0"),
        (("files",), {"../x": "sha256:a"}, "no name of a file"),
        (("files",), {"/etc/passwd": "sha256:a"}, "no name of a file"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_a_record_that_no_fit_writes_is_told(study, path, value, says):
    record = json.loads((study / RECORD).read_text())
    part = record
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    (study / RECORD).write_text(json.dumps(record))
    refuse(study, says)


@pytest.mark.parametrize(
    "content", ["", "null", "[]", "3", "[" * 200_000, '{"format": 1}', '{"format": [[1]]}', "\xff"]
)
def test_what_is_no_record_at_all_is_told(study, content):
    (study / RECORD).write_text(content, encoding="latin-1")
    refuse(study, "incomplete or broken")


def paths_of(value, path=()):
    """Every place in a record."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths_of(part, (*path, key))


@given(data=some.data())
@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_of_the_record_is_read_or_refused_in_one_sentence(original, data):
    record = json.loads((original / RECORD).read_text())
    changed = copy.deepcopy(record)
    path = data.draw(some.sampled_from([each for each in paths_of(record) if each]))
    part = changed
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = data.draw(anything())
    kept = (original / RECORD).read_text()
    try:
        (original / RECORD).write_text(json.dumps(changed))
        study = Study.load(original)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 900
    else:
        assert study.layers == LAYERS and study.kept >= 1 and study.suggested_edit.rank <= 4
    finally:
        (original / RECORD).write_text(kept)
