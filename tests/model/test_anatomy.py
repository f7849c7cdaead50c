import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    GraniteMoeHybridConfig,
    MambaConfig,
    ModernBertDecoderConfig,
    OpenAIGPTConfig,
    OPTConfig,
    RecurrentGemmaConfig,
    XLNetConfig,
)

from detox_engine.errors import InputError
from detox_engine.model.anatomy import block_output, find_anatomy
from tests.models import FAMILIES, HIDDEN, INNER, LAYERS, SENTENCES, fresh_model, tiny_model

GEMMAS = ("gemma2", "gemma3")
ATTENTION_OUTPUTS = {"gpt2": "c_proj"} | dict.fromkeys(("gptj", "gpt_neo", "opt"), "out_proj")
ATTENTION_OUTPUTS |= dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", *GEMMAS), "o_proj")
"""What attention writes with in families that do not call it `dense`."""
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}


@torch.no_grad()
def watch(family, anatomy, layer):
    """What goes through one layer: value layer's input and output, block's output; and the model's logits."""
    model, tokenizer = tiny_model(family)
    batch = tokenizer(SENTENCES[0], return_tensors="pt")
    seen = {}
    value, block = anatomy.values[layer].module, anatomy.blocks[layer]

    def keep_value(_module, given, returned):
        seen["given"], seen["value"] = given[0].clone(), returned.clone()  # Falcon changes it in place afterwards

    handles = [
        value.register_forward_hook(keep_value),
        block.register_forward_hook(lambda _module, _given, out: seen.update(block=block_output(out).clone())),
    ]
    try:
        seen["logits"] = model(**batch).logits
        seen["final"] = anatomy.trunk(**batch, use_cache=False).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    seen["value"] = seen["value"].reshape(seen["block"].shape)
    return seen


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def anatomy(family):
    return find_anatomy(tiny_model(family)[0])


def normalised(states, gain):
    """What joins the residual stream when an output projection gives `states` and an RMS norm follows."""
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6) * gain


@torch.no_grad()
def test_zeroing_the_value_layer_removes_exactly_what_it_wrote(family, anatomy):
    before = watch(family, anatomy, 1)
    value = anatomy.values[1]
    kept = {name: tensor.clone() for name, tensor in value.module.named_parameters()}
    try:
        for parameter in value.module.parameters():
            parameter.zero_()
        after = watch(family, anatomy, 1)
    finally:
        for name, parameter in value.module.named_parameters():
            parameter.copy_(kept[name])
    written = normalised(before["value"], value.gain) if family in GEMMAS else before["value"]
    assert written.abs().mean() > 0.1
    torch.testing.assert_close(before["block"] - after["block"], written, atol=2e-5, rtol=0)


@torch.no_grad()
def test_without_its_mlp_a_block_adds_exactly_what_its_attentions_output_writes(family):
    model, tokenizer = fresh_model(family), tiny_model(family)[1]
    anatomy = find_anatomy(model)
    for parameter in anatomy.values[1].module.parameters():
        parameter.zero_()
    attention, seen = anatomy.attention_outputs[1], {}
    parts = {"below": anatomy.blocks[0], "block": anatomy.blocks[1], "written": attention.module}
    for name, part in parts.items():
        part.register_forward_hook(lambda _part, _given, out, name=name: seen.update({name: block_output(out).clone()}))
    anatomy.trunk(**tokenizer(SENTENCES[0], return_tensors="pt"), use_cache=False)
    written = normalised(seen["written"], attention.gain) if family in GEMMAS else seen["written"]
    assert written.abs().mean() > 0.05
    torch.testing.assert_close(seen["block"] - seen["below"], written, atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in GEMMAS])
@torch.no_grad()
def test_projecting_the_value_layers_output_moves_the_stream_along_that_direction_only(family, anatomy):
    direction = torch.nn.functional.normalize(torch.randn(HIDDEN, generator=torch.Generator().manual_seed(1)), dim=0)
    before = watch(family, anatomy, 1)
    handle = anatomy.values[1].module.register_forward_hook(
        lambda _module, _given, out: out - (out @ direction)[..., None] * direction
    )
    try:
        after = watch(family, anatomy, 1)
    finally:
        handle.remove()
    removed = (before["value"] @ direction)[..., None] * direction
    assert removed.abs().max() > 0.1
    torch.testing.assert_close(before["block"] - after["block"], removed, atol=2e-5, rtol=0)


@torch.no_grad()
def test_rows_and_bias_reproduce_the_value_layer(family, anatomy):
    seen = watch(family, anatomy, 1)
    value = anatomy.values[1]
    product = seen["given"] @ value.rows + (0 if value.bias is None else value.bias)
    torch.testing.assert_close(product.reshape(seen["value"].shape), seen["value"], atol=1e-5, rtol=1e-5)
    assert value.rows.shape == (anatomy.inner, anatomy.hidden)
    assert value.rows.data_ptr() == value.module.weight.data_ptr()


@torch.no_grad()
def test_final_norm_of_the_last_blocks_output_is_the_last_hidden_state(family, anatomy):
    seen = watch(family, anatomy, LAYERS - 1)
    torch.testing.assert_close(anatomy.final_norm(seen["block"]), seen["final"], atol=1e-6, rtol=0)
    assert not torch.allclose(seen["block"], seen["final"], atol=0.1)


@torch.no_grad()
def test_unembedding_reads_the_logits_off_the_normalised_stream(family, anatomy):
    seen = watch(family, anatomy, LAYERS - 1)
    logits = anatomy.unembedding(anatomy.final_norm(seen["block"]))
    cap = getattr(tiny_model(family)[0].config, "final_logit_softcapping", None)
    if cap:
        logits = cap * torch.tanh(logits / cap)
    torch.testing.assert_close(logits, seen["logits"], atol=1e-4, rtol=0)
    assert anatomy.unembedding.weight.shape == (anatomy.vocab, anatomy.hidden)


def test_norm_gain_is_what_the_final_norm_multiplies_with(family, anatomy):
    weight = anatomy.final_norm.weight + (1 if family in GEMMAS else 0)
    torch.testing.assert_close(anatomy.norm_gain, weight, atol=1e-6, rtol=1e-6)
    assert weight.std() > 0.1


def test_only_a_norm_behind_the_mlp_gives_a_value_layer_a_gain(family, anatomy):
    for value, block in zip(anatomy.values, anatomy.blocks, strict=True):
        if family in GEMMAS:
            torch.testing.assert_close(value.gain, 1 + block.post_feedforward_layernorm.weight, atol=1e-6, rtol=1e-6)
        else:
            assert value.gain is None


def test_only_a_norm_behind_attention_gives_its_output_a_gain(family, anatomy):
    for attention, block in zip(anatomy.attention_outputs, anatomy.blocks, strict=True):
        if family in GEMMAS:
            gain = 1 + block.post_attention_layernorm.weight
            torch.testing.assert_close(attention.gain, gain, atol=1e-6, rtol=1e-6)
        else:
            assert attention.gain is None


def test_every_block_has_what_its_own_attention_writes_with(family, anatomy):
    model, _ = tiny_model(family)
    assert len(anatomy.attention_outputs) == LAYERS
    for layer, attention in enumerate(anatomy.attention_outputs):
        assert model.get_submodule(attention.name) is attention.module
        assert attention.module in set(anatomy.blocks[layer].modules()) and attention.site == "attention"
        assert attention.name.rsplit(".", 1)[1] == ATTENTION_OUTPUTS.get(family, "dense")
        assert attention.rows.shape == (HIDDEN, HIDDEN)
        assert anatomy.written_at(layer, "both") == (attention, anatomy.values[layer])
        assert anatomy.written_at(layer, "attention") == (attention,)
        assert anatomy.written_at(layer, "mlp") == (anatomy.values[layer],)


@pytest.mark.parametrize("sites", ["mlp", "attention", "both"])
def test_a_layer_outside_the_model_writes_nowhere(sites):
    with pytest.raises(InputError, match=f"0-{LAYERS - 1}"):
        find_anatomy(tiny_model("gpt2")[0]).written_at(LAYERS, sites)


@pytest.mark.parametrize(
    "end",
    [torch.nn.LayerNorm(HIDDEN), torch.nn.Sequential(torch.nn.Linear(HIDDEN, 7), torch.nn.Linear(7, 5))],
    ids=["a layer norm", "another width"],
)
def test_attention_that_ends_otherwise_is_not_found_where_it_does(end):
    model = fresh_model("gpt2")
    block = model.transformer.h[1]
    attend = block.attn.forward

    def forward(*given, **named):
        written, *rest = attend(*given, **named)
        ended = end(written)
        return (ended if ended.shape == written.shape else written), *rest

    block.attn.end, block.attn.forward = end, forward
    anatomy = find_anatomy(model)
    assert [each is None for each in anatomy.attention_outputs] == [False, True, False]
    assert anatomy.written_at(1, "mlp") == (anatomy.values[1],)
    with pytest.raises(InputError, match=r"attention's result at layer 1 was not found.* edit the MLPs alone"):
        anatomy.written_at(1, "both")


def test_every_block_has_its_own_value_layer_in_order(family, anatomy):
    model, _ = tiny_model(family)
    assert anatomy.layers == len(anatomy.values) == LAYERS
    assert anatomy.hidden == HIDDEN
    assert anatomy.inner == (4 * HIDDEN if family == "bloom" else INNER)
    for layer, value in enumerate(anatomy.values):
        assert model.get_submodule(value.name) is value.module
        assert f".{layer}." in value.name
        assert value.module in set(anatomy.blocks[layer].modules())


def test_looking_leaves_no_hook_behind(family):
    # A model of its own: the library leaves hooks on one that was asked for its hidden states.
    model = fresh_model(family)
    find_anatomy(model)
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3", "falcon"])
def test_the_anatomy_is_the_same_in_bfloat16(family):
    model = fresh_model(family).bfloat16()
    narrow, wide = find_anatomy(model), find_anatomy(tiny_model(family)[0])
    for layer in range(LAYERS):
        names = [[written.name for written in each.written_at(layer, "both")] for each in (narrow, wide)]
        assert names[0] == names[1] and len(names[0]) == 2
    torch.testing.assert_close(narrow.norm_gain, wide.norm_gain, atol=0.02, rtol=0.01)


@pytest.mark.parametrize(
    ("family", "changes", "name"),
    [("llama", {"intermediate_size": HIDDEN}, "down_proj"), ("gpt2", {"n_inner": HIDDEN}, "c_proj")],
)
def test_square_mlps_are_told_apart_by_the_order_they_run_in(family, changes, name):
    anatomy = find_anatomy(fresh_model(family, **changes))
    assert [value.name.rsplit(".", 1)[1] for value in anatomy.values] == [name] * LAYERS


def test_blocks_are_found_where_other_lists_have_the_same_length():
    model = fresh_model("gpt2")
    model.transformer.h[0].branches = torch.nn.ModuleList(torch.nn.Identity() for _ in range(LAYERS))
    assert find_anatomy(model).blocks == tuple(model.transformer.h)
    model.transformer.more = torch.nn.ModuleList(torch.nn.Identity() for _ in range(LAYERS))
    with pytest.raises(InputError, match="one list of 3 modules .* found 2"):
        find_anatomy(model)


def test_a_final_norm_of_several_parts_is_taken_whole():
    model = fresh_model("gpt2")
    model.transformer.ln_f = torch.nn.Sequential(torch.nn.LayerNorm(HIDDEN), torch.nn.Linear(HIDDEN, HIDDEN))
    assert find_anatomy(model).final_norm is model.transformer.ln_f


def test_a_norm_of_the_sum_with_the_stream_is_no_gain_even_if_the_sum_is_made_in_place():
    model = fresh_model("gpt2")
    block = model.transformer.h[1]
    block.late_norm = torch.nn.LayerNorm(HIDDEN)

    def forward(hidden_states, *_args, **_options):
        written = block.mlp(block.ln_2(hidden_states))
        written += hidden_states
        return block.late_norm(written)

    block.forward = forward
    assert find_anatomy(model).values[1].gain is None


def test_a_layer_norm_behind_the_mlp_is_refused():
    model = fresh_model("gpt2")
    mlp = model.transformer.h[1].mlp
    mlp.late_norm = torch.nn.LayerNorm(HIDDEN)
    mlp.dropout = mlp.late_norm
    with pytest.raises(InputError, match=r"looked for one RMS norm and found transformer.h.1.mlp.\w+ .LayerNorm."):
        find_anatomy(model)


def test_a_dense_model_in_a_class_of_mixtures_is_taken():
    sizes = SMALL | {"num_key_value_heads": 2, "shared_intermediate_size": 64}
    mamba = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}
    kinds = {"layer_types": ["attention", "mamba"]}
    dense = GraniteMoeHybridConfig(**sizes, **mamba, **kinds, num_local_experts=0, num_experts_per_tok=0)
    anatomy = find_anatomy(AutoModelForCausalLM.from_config(dense).eval())
    assert [value.name.split(".", 3)[3] for value in anatomy.values] == ["shared_mlp.output_linear"] * 2
    mixed = GraniteMoeHybridConfig(**sizes, **mamba, **kinds, num_local_experts=4, num_experts_per_tok=2)
    with pytest.raises(InputError, match="is a mixture of experts"):
        find_anatomy(AutoModelForCausalLM.from_config(mixed).eval())


@pytest.mark.parametrize("family", ["qwen3_5", "lfm2", "bamba"])
def test_the_blocks_of_a_hybrid_are_edited_at_their_mlps_and_at_what_mixes_their_tokens(family):
    anatomy = find_anatomy(fresh_model(family))
    mlps = {value.name.split(".", 3)[3] for value in anatomy.values}
    assert len(mlps) == 1 and mlps <= {
        "mlp.down_proj",
        "feed_forward.w2",
        "feed_forward.down_proj",
        "mlp_block.down_proj",
    }
    mixers = [each.name.rsplit(".", 1)[1] for each in anatomy.attention_outputs]
    assert len(set(mixers)) <= 2 and set(mixers) <= {"o_proj", "out_proj", "linear_out"}


def test_a_model_that_reads_ahead_is_refused():
    model = fresh_model("gpt2")
    block = model.transformer.h[1]
    attend = block.attn.forward

    def forward(hidden_states, *given, **named):
        written, *rest = attend(hidden_states, *given, **named)
        return written + hidden_states.flip(1), *rest

    block.attn.forward = forward
    with pytest.raises(InputError, match="reads ahead: what GPT2Block makes of two tokens depends on the third"):
        find_anatomy(model)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            XLNetConfig(d_model=32, n_layer=2, n_head=4, d_inner=64, vocab_size=99),
            "as .3, 2, 32., where .2, 3, hidden.",
        ),
        (
            RecurrentGemmaConfig(**SMALL, num_key_value_heads=1, head_dim=8, lru_width=32, attention_window_size=64),
            "keeps in its RecurrentGemmaRglru what it has read",
        ),
        (OpenAIGPTConfig(n_embd=32, n_layer=2, n_head=4, vocab_size=99), "final normalisation .* was not found"),
    ],
    ids=lambda each: getattr(each, "model_type", ""),
)
def test_what_cannot_be_read_block_by_block_is_refused_when_it_is_loaded(config, says):
    with pytest.raises(InputError, match=says):
        find_anatomy(AutoModelForCausalLM.from_config(config).eval())


def test_rounding_beside_a_giant_state_is_no_look_ahead():
    model = fresh_model("gpt2")
    block = model.transformer.h[1]
    attend = block.attn.forward

    def forward(hidden_states, *given, **named):
        written, *rest = attend(hidden_states, *given, **named)
        if len(written) == 2:
            written[1, :2] = written[0, :2]
            written[:, 0, 3] += 23_000  # a sink, whose rounding is larger than other states
            written[1, 0] += 0.01 * torch.randn(HIDDEN, generator=torch.Generator().manual_seed(0))
        return written, *rest

    block.attn.forward = forward
    assert find_anatomy(model).layers == LAYERS


def test_a_model_whose_own_code_fails_is_refused():
    model = fresh_model("gpt2")
    model.transformer.h[1].mlp.forward = lambda *given: torch.zeros(3) @ torch.zeros(4)
    with pytest.raises(InputError, match="GPT2LMHeadModel cannot be run over three tokens"):
        find_anatomy(model)


def test_a_trunk_that_is_not_where_it_should_be_is_found():
    sizes = SMALL | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = AutoModelForCausalLM.from_config(ModernBertDecoderConfig(**sizes)).eval()
    assert model.get_decoder() is not model.model
    assert find_anatomy(model).trunk is model.model


def test_a_projection_before_the_unembedding_is_refused():
    sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
    model = AutoModelForCausalLM.from_config(OPTConfig(**sizes, word_embed_proj_dim=16, do_layer_norm_before=False))
    with pytest.raises(InputError, match="32 wide and its unembedding 16"):
        find_anatomy(model.eval())


@pytest.mark.parametrize(
    ("config", "looked_for"),
    [
        (BertConfig(**SMALL), "reads ahead: what BertLayer makes"),
        (BertConfig(**SMALL, is_decoder=True), "final normalisation .* looked for one module"),
        (MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=99), "value layer .* looked for attention"),
    ],
    ids=["encoder", "norms after the sum", "state space"],
)
def test_other_architectures_are_refused_with_what_was_looked_for(config, looked_for):
    with pytest.raises(InputError, match=looked_for):
        find_anatomy(AutoModelForCausalLM.from_config(config).eval())
