"""The logit lens at a token: the model's own prediction at the top, the definition below."""

import pytest
import torch

from detox_engine.edit.in_weights import edited_weights
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.forward.tokens import encode_text
from detox_engine.reading.lens import read_predictions
from detox_engine.reading.token_lens import project_text
from tests.model.test_head import SCALED, open_scaled
from tests.models import FAMILIES, HIDDEN, LAYERS, SENTENCES, open_tiny


def states_of(model, text: str, edit: LowRankEdit | None = None) -> dict[tuple[bool, int], torch.Tensor]:
    """(after the edit, layer) -> `[tokens, hidden]`, as a pass of the lens hands them out."""
    states = {}
    bases = dict.fromkeys(range(LAYERS), torch.eye(1, HIDDEN))
    project_text(
        model, text, bases, edit,
        read=lambda after, layer, found: states.update({(after, layer): found.clone()}),
    )  # fmt: skip
    return states


@pytest.mark.parametrize("family", [*FAMILIES, *SCALED])
def test_after_the_last_layer_it_is_what_the_model_predicts(family):
    model = open_scaled(family) if family in SCALED else open_tiny(family)
    text = encode_text(model, SENTENCES[0])
    basis = torch.linalg.qr(torch.randn(HIDDEN, 4, generator=torch.Generator().manual_seed(0))).Q.T
    edit = LowRankEdit({0: basis, 1: basis})

    def check(found):
        with torch.no_grad():
            logits = model.network(input_ids=torch.tensor([text.ids])).logits[0]
        expected = logits.softmax(-1).topk(3)
        for place, scores in enumerate(found):
            assert [score.id for score in scores] == expected.indices[place].tolist()
            assert [score.score for score in scores] == pytest.approx(expected.values[place].tolist(), rel=1e-3)
        return logits

    states = states_of(model, SENTENCES[0], edit)
    before = check(read_predictions(model, states[False, LAYERS - 1], top=3))
    after = read_predictions(model, states[True, LAYERS - 1], top=3)
    with edited_weights(model.anatomy, edit):
        assert not torch.allclose(check(after), before, atol=1e-2)


def test_lower_layers_are_read_through_the_final_norm_and_unembedding():
    model = open_tiny("gpt2")
    text = encode_text(model, SENTENCES[1])
    given = states_of(model, SENTENCES[1])
    found = [read_predictions(model, given[False, layer][[5, 2]], top=4) for layer in (0, 1)]
    with torch.no_grad():
        states = model.network(input_ids=torch.tensor([text.ids]), output_hidden_states=True).hidden_states
        for layer in (0, 1):
            for place, position in enumerate((5, 2)):
                state = model.network.transformer.ln_f(states[layer + 1][0, position])
                best = (model.network.lm_head.weight @ state).topk(4).indices
                assert [score.id for score in found[layer][place]] == best.tolist()


def test_many_tokens_are_read_in_parts_that_make_no_difference(monkeypatch):
    model = open_tiny("llama")
    states = states_of(model, SENTENCES[2])[False, 1]
    whole = read_predictions(model, states)
    monkeypatch.setattr("detox_engine.reading.lens.TOKENS_READ_AT_ONCE", 3)
    parts = read_predictions(model, states)
    assert [[score.id for score in row] for row in whole] == [[score.id for score in row] for row in parts]
