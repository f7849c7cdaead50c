import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, GPT2Model

from detox_engine.errors import Cancelled, InputError
from detox_engine.model import load as loading
from detox_engine.model.hub import reporting_bar
from detox_engine.model.load import load_model, pick_device, pick_dtype
from detox_engine.plans.sources import ModelSpec
from tests.models import CONTEXT, FAMILIES, SENTENCES, save_tiny_model, tiny_model, tiny_tokenizer

COMMIT = "c0ffee" + "0" * 34


@pytest.fixture
def folder(tmp_path):
    return save_tiny_model("gpt2", tmp_path / "model")


def load(folder, **options):
    return load_model(ModelSpec(str(folder), **({"device": "cpu"} | options)))


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What loading gives


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_back_the_model_that_was_saved(family, tmp_path):
    model = load(save_tiny_model(family, tmp_path))
    batch = model.tokenizer(list(SENTENCES[:2]), return_tensors="pt", padding=True)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        found, expected = model.network(**inputs).logits, tiny_model(family)[0](**inputs).logits
    # The weights are the same to the bit; they lie elsewhere in memory, where a product may be summed in another order.
    saved = tiny_model(family)[0].state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in model.network.state_dict().items())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert model.context == (
        None if family in ("bloom", "falcon_sequential") else 2048 if "falcon" in family else CONTEXT
    )
    assert model.revision is None


def test_the_model_is_frozen_in_evaluation_mode_and_in_float32_on_the_cpu(folder):
    model = load(folder).network
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.device.type == "cpu"


def test_the_number_format_can_be_chosen(folder):
    model = load(folder, dtype="bfloat16").network
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_the_bundled_model_is_the_folder_in_the_repository(folder, monkeypatch):
    monkeypatch.setattr(loading, "BUNDLED_MODEL", folder)
    assert load("bundled").weights_hash == load(folder).weights_hash
    assert load("bundled").revision is None


def test_the_weights_hash_depends_on_the_weights_alone(folder, tmp_path):
    first = load(folder).weights_hash
    assert first.startswith("sha256:")
    assert load(folder, dtype="float16").weights_hash == first
    assert load(save_tiny_model("gpt2", tmp_path / "again")).weights_hash == first
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.0.mlp.c_fc.bias"][3] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load(folder).weights_hash != first


def test_sharded_weights_load_like_whole_ones(tmp_path):
    model, tokenizer = tiny_model("llama")
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    tokenizer.save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    opened = load(tmp_path)
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(opened.network.parameters(), model.parameters(), strict=True)
    )
    shards[1].unlink()
    with pytest.raises(InputError, match=f"is not whole: {shards[1].name} is missing"):
        load(tmp_path)


def test_models_are_loaded_one_at_a_time_and_waiting_can_be_stopped(tmp_path, monkeypatch):
    # At once, tied weights such as GPT-2's are missing from one of them or from all later ones.
    folders = [save_tiny_model(family, tmp_path / family) for family in ("gpt2", "gemma2", "opt")]
    read, inside, counts = loading.AutoModelForCausalLM.from_pretrained, [], []

    def watch(*given, **options):
        inside.append(given)
        counts.append(len(inside))
        time.sleep(0.1)
        try:
            return read(*given, **options)
        finally:
            inside.pop()

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", watch)
    with ThreadPoolExecutor(3) as threads:
        assert len(list(threads.map(load, folders))) == 3
    assert counts == [1, 1, 1]

    def stop(stage, done, total):
        if stage.startswith("Waiting"):
            raise Cancelled

    with loading.loading_alone(stop), pytest.raises(Cancelled):
        load_model(ModelSpec(str(folders[0]), device="cpu"), stop)


def test_a_tokenizer_without_padding_gets_one_of_its_own_tokens(folder):
    assert tiny_tokenizer().pad_token_id is None
    model = load(folder)
    assert model.tokenizer.pad_token_id == model.tokenizer.eos_token_id
    assert model.network.get_input_embeddings().weight.shape[0] == len(model.tokenizer) == len(tiny_tokenizer())
    assert model.tokenizer([*SENTENCES], padding=True, return_tensors="pt")["attention_mask"].min() == 0


def test_a_padding_token_that_the_model_does_not_have_is_replaced(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    model = load(folder)
    assert model.tokenizer.pad_token_id < model.network.get_input_embeddings().weight.shape[0]


def test_loading_is_silent_and_reports_its_stages(folder, capfd):
    stages = []
    load_model(ModelSpec(str(folder), device="cpu"), lambda *report: stages.append(report))
    assert stages == [("Loading the model", 0, 1), ("Loading the model", 1, 1)]
    assert capfd.readouterr() == ("", "")


def test_auto_takes_cuda_with_bfloat16_then_mps_with_the_stored_format_then_the_cpu(folder, monkeypatch):
    config = tiny_model("gpt2")[0].config
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    assert pick_dtype("auto", torch.device("cpu"), config) == torch.float32
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto").type == "mps"
    assert pick_dtype("auto", torch.device("mps"), SimpleNamespace(dtype=torch.float16)) == torch.float16
    assert pick_dtype("auto", torch.device("mps"), SimpleNamespace(dtype=None)) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    assert pick_dtype("auto", torch.device("cuda"), config) == torch.bfloat16


# Bad input: folders


def no_config(folder):
    (folder / "config.json").unlink()


def broken_config(folder):
    (folder / "config.json").write_text("{not json")


def wrong_field(folder):
    rewrite(folder / "config.json", n_layer="many")


def pickle_only(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def adapter(folder):
    (folder / "model.safetensors").unlink()
    (folder / "adapter_config.json").write_text("{}")


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pointer_weights(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")


def missing_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.1.mlp.c_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_sizes(folder):
    rewrite(folder / "config.json", n_inner=96)


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")


def larger_tokenizer(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"] |= {f"extra{index}": 400 + index for index in range(9)}
    path.write_text(json.dumps(tokenizer))


def custom_code(folder):
    rewrite(folder / "config.json", model_type="our_own", auto_map={"AutoModelForCausalLM": "modeling.OurModel"})
    (folder / "modeling.py").write_text("raise SystemExit('this code must never run')")


def unknown_kind(folder):
    rewrite(folder / "config.json", model_type="gpt99")


def quantised(folder):
    rewrite(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_config, "is no model: looked for config.json and found none; use the bundled model"),
        (broken_config, "has a broken config.json"),
        (wrong_field, "has a config.json that cannot be used"),
        (pickle_only, r"only as a pickle \(pytorch_model.bin\).*refused.*model.save_pretrained\(folder\)"),
        (no_weights, "has no weights to load: looked for model.safetensors"),
        (adapter, "is an adapter and no whole model, and its adapter_config.json names no base model: merge it"),
        (cut_weights, "has a broken weights file, model.safetensors .*: get the file again"),
        (pointer_weights, "has a broken weights file, model.safetensors .*: get the file again"),
        (
            missing_weight,
            "1 of the weights it needs are not in its files .*, such as transformer.h.1.mlp.c_proj.weight",
        ),
        (other_sizes, "such as transformer.h.0.mlp.c_fc.bias"),
        (no_tokenizer, "has no tokenizer: looked for tokenizer.json"),
        (broken_tokenizer, "has a tokenizer that could not be loaded"),
        (larger_tokenizer, "has a tokenizer of 409 tokens for a model of 400"),
        (custom_code, r"needs its own Python code to run \(modeling.OurModel\), which is never executed"),
        (unknown_kind, "is of an architecture .*gpt99.* does not know"),
        (quantised, "is quantised"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_spoilt_folder_gets_one_sentence_and_stays_as_it_is(folder, spoil, sentence):
    spoil(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=sentence) as refused:
        load(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_encoder_is_refused_for_its_missing_head(tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertForMaskedLM(BertConfig(**sizes, vocab_size=400)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no causal language-model head .it is a BertForMaskedLM."):
        load(tmp_path)


def test_a_trunk_without_its_head_loads_only_where_the_head_is_the_embedding(tmp_path):
    trunk = tiny_model("gpt2")[0].transformer
    assert isinstance(trunk, GPT2Model)
    trunk.save_pretrained(tmp_path / "tied")
    tiny_tokenizer().save_pretrained(tmp_path / "tied")
    assert torch.equal(load(tmp_path / "tied").network.lm_head.weight, trunk.wte.weight)
    tiny_model("llama")[0].model.save_pretrained(tmp_path / "untied")
    tiny_tokenizer().save_pretrained(tmp_path / "untied")
    with pytest.raises(InputError, match="1 of the weights it needs are not in its files .*, such as lm_head.weight"):
        load(tmp_path / "untied")


def test_paths_that_lead_nowhere_say_so(folder, tmp_path):
    for name in (tmp_path / "none", "./none", "~/none", "none/"):
        with pytest.raises(InputError, match="There is no folder"):
            load(name)
    with pytest.raises(InputError, match="is a file that is no GGUF: give the folder"):
        load(folder / "model.safetensors")
    with pytest.raises(InputError, match="folder, which has no revision “main”"):
        load(folder, revision="main")


def test_a_missing_bundle_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "BUNDLED_MODEL", tmp_path / "absent")
    with pytest.raises(InputError, match="The bundled model is missing .*absent"):
        load("bundled")


# Bad input: device and number format


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "cuda"}, "cuda was asked for and this machine has 0 CUDA devices: use auto or cpu"),
        ({"device": "cuda:3"}, "cuda:3 was asked for and this machine has 0 CUDA devices"),
        ({"device": "mps"}, "mps was asked for and this machine has none"),
        ({"device": "abacus"}, "“abacus” is no device: write auto, cpu"),
        ({"device": "meta"}, "“meta” is no device"),
        ({"dtype": "float12"}, "“float12” is no number format for weights: write auto, float32, bfloat16, float16"),
    ],
)
def test_devices_and_formats_that_are_not_there_are_refused_before_anything_is_read(monkeypatch, options, sentence):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(loading, "find_model", lambda *_: pytest.fail("looked for the model first"))
    with pytest.raises(InputError, match=sentence):
        load("some/model", **options)


def test_a_model_too_large_for_the_device_says_how_much_it_needs(folder, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.PreTrainedModel.to", fail)
    with pytest.raises(InputError, match=r"needs 0\.0 GiB, which cpu does not have free: use bfloat16"):
        load(folder)


# The Hub, at the boundary of its client


class FakeHub:
    """What the Hub's client would answer: a listing of `folder`, and downloads that only note what was asked for."""

    def __init__(self, folder: Path):
        self.folder, self.asked, self.listing_error, self.cached = folder, [], None, True

    def model_info(self, name, *, revision, timeout):
        assert timeout <= 10
        if self.listing_error:
            raise self.listing_error
        files = [SimpleNamespace(rfilename=path.name) for path in self.folder.iterdir()]
        return SimpleNamespace(siblings=[*files, SimpleNamespace(rfilename="onnx/model.onnx")])

    def snapshot_download(self, name, *, revision, allow_patterns, local_files_only=False, tqdm_class=None):
        self.asked.append((name, revision, allow_patterns, local_files_only))
        if local_files_only and not self.cached:
            raise LocalEntryNotFoundError("not cached")
        return str(self.folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    fake = FakeHub(save_tiny_model("gpt2", tmp_path / COMMIT))
    monkeypatch.setattr(huggingface_hub, "model_info", fake.model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def refusal(kind):
    return kind("no", response=httpx2.Response(404, request=httpx2.Request("GET", "https://example.org")))


def test_a_hub_model_comes_with_its_commit_and_only_the_files_it_needs(hub):
    for name in ("pytorch_model.bin", "model.fp16.safetensors", "README.md"):
        (hub.folder / name).write_bytes(b"not wanted")
    model = load("someone/model", revision="main")
    assert model.revision == COMMIT
    small = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert [set(files) for _, _, files, _ in hub.asked] == [small, small | {"model.safetensors"}]
    assert {(name, revision) for name, revision, *_ in hub.asked} == {("someone/model", "main")}


def test_a_hub_model_that_cannot_be_used_is_refused_before_its_weights_come(hub):
    custom_code(hub.folder)
    with pytest.raises(InputError, match="needs its own Python code"):
        load("someone/model")
    assert len(hub.asked) == 1
    pickle_only(hub.folder)
    with pytest.raises(InputError, match="“someone/model” keeps its weights only as a pickle"):
        load("someone/model")
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    "error",
    [OfflineModeIsEnabled("offline"), httpx2.ConnectError("refused"), httpx2.ReadTimeout("slow"), OSError("dropped")],
    ids=lambda error: type(error).__name__,
)
def test_without_a_connection_the_cache_serves_and_an_empty_cache_says_so(hub, error):
    hub.listing_error = error
    assert load("someone/model").revision == COMMIT
    hub.cached = False
    with pytest.raises(
        InputError,
        match="“someone/model” is no folder, is not in the local cache, and the Hub could not"
        " be reached .*bundled model or another local folder",
    ) as refused:
        load("someone/model")
    assert ("HF_HUB_OFFLINE" in str(refused.value)) == isinstance(error, OfflineModeIsEnabled)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (GatedRepoError, "“someone/model” is gated: ask for access .*`hf auth login`, or use the bundled model"),
        (RepositoryNotFoundError, "no public model “someone/model” on the Hub: .*`hf auth login`.*bundled model"),
        (RevisionNotFoundError, "has no revision “v9” on the Hub"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_sentence_with_the_ways_out(hub, kind, sentence):
    hub.listing_error = refusal(kind)
    with pytest.raises(InputError, match=sentence):
        load("someone/model", revision="v9")


def test_what_is_neither_folder_nor_hub_id_is_refused():
    with pytest.raises(InputError, match="“two words” is neither a folder nor a Hub id"):
        load("two words")


def test_without_a_network_the_refusal_comes_without_waiting_to_try_again(tmp_path):
    """With the real client and a port that nobody listens on; both settings are read when the client is imported."""
    code = (
        "import time; waits = []; time.sleep = waits.append\n"
        "from detox_engine.model.load import load_model\n"
        "from detox_engine.plans.sources import ModelSpec\n"
        "from detox_engine.errors import InputError\n"
        "try: load_model(ModelSpec('someone/model', device='cpu'))\n"
        "except InputError as error: print(error)\n"
        "assert sum(waits) < 5, waits"
    )
    settings = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "PATH": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=settings,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "the Hub could not be reached" in result.stdout
    assert result.stderr == ""


def test_downloads_report_bytes_forwards_only_and_can_be_stopped(capfd):
    reports = []
    bar_class = reporting_bar(lambda *report: reports.append(report))
    transferred, written = (bar_class(total=100, unit="B", desc=name) for name in ("Downloading", "Reconstructing"))
    files = bar_class(total=2)
    for bar, count in ((transferred, 30), (written, 20), (files, 1), (written, 40), (transferred, 70)):
        bar.update(count)
    assert reports == [("Downloading the model", done, 100) for done in (30, 60, 100)]
    assert capfd.readouterr() == ("", "")

    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        reporting_bar(stop)(total=9, unit="B").update(1)


def test_stopping_a_download_is_no_error_of_the_network(hub, monkeypatch):
    def stopped(*_args, **_options):
        raise Cancelled

    monkeypatch.setattr(huggingface_hub, "snapshot_download", stopped)
    with pytest.raises(Cancelled):
        load("someone/model")


def test_a_container_with_the_time_of_two_cores_gets_two_threads(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    folder = save_tiny_model("gpt2", tmp_path / "model")
    try:
        torch.set_num_threads(4)
        monkeypatch.setattr("joblib.cpu_count", lambda: 2)
        load_model(ModelSpec(str(folder), device="cpu"))
        assert torch.get_num_threads() == 2
        monkeypatch.setattr("joblib.cpu_count", lambda: 64)
        load_model(ModelSpec(str(folder), device="cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
