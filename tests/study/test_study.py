"""A study on disk: whole or not there, the same after a round trip, and never mistaken for another model's."""

import json
from dataclasses import replace

import pytest
import torch

from detox_engine.data.columns import Pair
from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.study.noise.null_spectra import draw_null_spectra
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.models import SENTENCES, open_tiny


@pytest.fixture(scope="module")
def bench():
    return Workbench(open_tiny("gpt2"))


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {"prompt": prompt, "toxic": f" you idiot, {toxic}", "civil": f" thank you, {civil}"}
        for prompt, toxic, civil in zip(SENTENCES, SENTENCES[3:], SENTENCES[1:], strict=False)
    ]
    rows.append({"prompt": "Émile 日本 “quoted” <script>", "toxic": " crap\u2028\n", "civil": " fine"})
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def study(bench, pairs_file):
    return bench.fit(FitPlan(pairs=PairSpec(str(pairs_file)), keep=4, max_length=100))


def test_a_study_reads_back_as_it_was_written(study, tmp_path):
    study.save(tmp_path / "study")
    again = Study.load(tmp_path / "study")
    assert again.plan == study.plan and again.model == study.model and again.pairs == study.pairs
    assert again.pairs[-1] == Pair("Émile 日本 “quoted” <script>", " crap\u2028\n", " fine")
    told = "suggested_layers", "suggested_rank", "noise_thresholds", "seconds", "warnings", "tokens", "versions"
    for name in (*told, "dominant_ranks"):
        assert getattr(again, name) == getattr(study, name), name
    for found, expected in zip(again.subspaces, study.subspaces, strict=True):
        for name in ("basis", "singular_values", "mean_direction", "polarity"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
    assert again.null_spectra is study.null_spectra is None
    assert torch.equal(again.embeddings.toxic, study.embeddings.toxic)
    assert again.embeddings.cut == study.embeddings.cut


def test_a_parallel_analysis_that_was_asked_for_is_kept_and_is_that_of_the_embeddings(bench, study, tmp_path):
    asked = bench.fit(replace(study.plan, parallel_analysis=True))
    asked.save(tmp_path / "study")
    again = Study.load(tmp_path / "study")
    assert again.plan.parallel_analysis and again.noise_thresholds == pytest.approx(study.noise_thresholds)
    drawn = draw_null_spectra(study.embeddings, study.subspaces)
    for found, kept, expected in zip(again.null_spectra, asked.null_spectra, drawn, strict=True):
        assert torch.equal(found.draws, kept.draws)
        torch.testing.assert_close(found.draws, expected.draws, rtol=1e-4, atol=1e-5)


def test_a_study_of_before_the_noise_threshold_is_read_with_its_null_spectra(bench, study, tmp_path):
    bench.fit(replace(study.plan, parallel_analysis=True)).save(tmp_path / "study")
    file = tmp_path / "study" / "study.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    for name in ("noise_thresholds", "dominant_ranks"):
        del record[name]
    del record["plan"]["parallel_analysis"]
    record["suggested"]["ranks"] = [4, 4, 4]
    file.write_text(json.dumps(record), encoding="utf-8")
    again = Study.load(tmp_path / "study")
    assert again.plan == study.plan and len(again.null_spectra) == 3
    assert again.noise_thresholds == pytest.approx(study.noise_thresholds)
    assert again.dominant_ranks == study.dominant_ranks


def test_the_folder_holds_what_the_product_promises(study, tmp_path):
    study.save(tmp_path / "study")
    names = sorted(path.name for path in (tmp_path / "study").iterdir())
    assert names == [
        "embeddings.safetensors",
        "pairs.jsonl",
        "study.json",
        "subspaces.safetensors",
        "tokens.safetensors",
    ]
    record = json.loads((tmp_path / "study" / "study.json").read_text(encoding="utf-8"))
    assert record["model"]["weights_hash"] == "sha256:gpt2"
    assert record["pairs"]["count"] == len(study.pairs) and record["pairs"]["hash"].startswith("sha256:")
    assert len(record["noise_thresholds"]) == len(record["dominant_ranks"]) == 3
    assert set(record["seconds"]) == {"load", "embed", "subspace"}
    assert record["versions"]["torch"] == torch.__version__
    replace(study, embeddings=None).save(tmp_path / "lean")
    assert not (tmp_path / "lean" / "embeddings.safetensors").exists()
    assert Study.load(tmp_path / "lean").embeddings is None


def test_an_interrupted_save_leaves_nothing(study, tmp_path, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Study, "_record", interrupt)
    with pytest.raises(KeyboardInterrupt):
        study.save(tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_never_replaced(study, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        study.save(tmp_path / "study")
    assert [path.name for path in tmp_path.rglob("*")] == ["study", "thesis.txt"]


def test_a_place_that_cannot_be_written_is_an_input_error(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        study.save(tmp_path / "file" / "study")


def test_a_folder_that_is_no_study_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="is no study"):
        Study.load(tmp_path)


@pytest.mark.parametrize("name", ["study.json", "subspaces.safetensors", "pairs.jsonl", "embeddings.safetensors"])
def test_a_broken_part_is_an_input_error(study, tmp_path, name):
    study.save(tmp_path / "study")
    file = tmp_path / "study" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="incomplete or broken"):
        Study.load(tmp_path / "study")


def test_a_study_of_other_weights_is_refused(study, bench):
    study.require_fit(bench.model)
    other = replace(study, model=replace(study.model, weights_hash="sha256:other"))
    with pytest.raises(InputError, match="other weights than the model at hand: “gpt2” .sha256:other. against “gpt2”"):
        other.require_fit(bench.model)


def test_fits_are_the_same_every_time(study, bench):
    again = bench.fit(study.plan)
    assert all(
        torch.equal(found.basis, expected.basis)
        for found, expected in zip(again.subspaces, study.subspaces, strict=True)
    )
    assert again.pairs_hash == study.pairs_hash and again.noise_thresholds == pytest.approx(study.noise_thresholds)
