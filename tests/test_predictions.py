"""The logit lens at a token: the model's own prediction at the top, the definition below."""

import pytest
import torch

from detox_engine.anatomy import find_anatomy
from detox_engine.edit import LowRankEdit, edited_weights
from detox_engine.errors import InputError
from detox_engine.predictions import read_predictions
from detox_engine.token_lens import encode_text
from tests.models import FAMILIES, HIDDEN, LAYERS, SENTENCES, loaded_tiny


@pytest.mark.parametrize("family", FAMILIES)
def test_after_the_last_layer_it_is_what_the_model_predicts(family):
    loaded = loaded_tiny(family)
    anatomy = find_anatomy(loaded.model)
    text = encode_text(loaded, SENTENCES[0])
    basis = torch.linalg.qr(torch.randn(HIDDEN, 4, generator=torch.Generator().manual_seed(0))).Q.T
    edit = LowRankEdit({0: basis, 1: basis})

    def check(found):
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([text.ids])).logits[0]
        expected = logits.softmax(-1).topk(3)
        for place, scores in enumerate(found):
            assert [score.id for score in scores] == expected.indices[place].tolist()
            assert [score.score for score in scores] == pytest.approx(expected.values[place].tolist(), rel=1e-3)
        return logits

    before = check(read_predictions(loaded, anatomy, text, [LAYERS - 1], top=3)[0])
    after = read_predictions(loaded, anatomy, text, [LAYERS - 1], edit, top=3)[0]
    with edited_weights(anatomy, edit):
        assert not torch.allclose(check(after), before, atol=1e-2)


def test_lower_layers_are_read_through_the_final_norm_and_unembedding():
    loaded = loaded_tiny("gpt2")
    anatomy = find_anatomy(loaded.model)
    text = encode_text(loaded, SENTENCES[1])
    found = read_predictions(loaded, anatomy, text, [0, 1], top=4, positions=[5, 2])
    with torch.no_grad():
        states = loaded.model(input_ids=torch.tensor([text.ids]), output_hidden_states=True).hidden_states
        for layer in (0, 1):
            for place, position in enumerate((5, 2)):
                state = loaded.model.transformer.ln_f(states[layer + 1][0, position])
                best = (loaded.model.lm_head.weight @ state).topk(4).indices
                assert [score.id for score in found[layer][place]] == best.tolist()


def test_many_tokens_are_read_in_parts_that_make_no_difference(monkeypatch):
    loaded = loaded_tiny("llama")
    anatomy = find_anatomy(loaded.model)
    text = encode_text(loaded, SENTENCES[2])
    whole = read_predictions(loaded, anatomy, text, [1])
    monkeypatch.setattr("detox_engine.predictions.TOKENS_READ_AT_ONCE", 3)
    parts = read_predictions(loaded, anatomy, text, [1])
    assert [[score.id for score in row] for row in whole[0]] == [[score.id for score in row] for row in parts[0]]


def test_places_outside_the_text_and_layers_outside_the_model_are_refused():
    loaded = loaded_tiny("gpt2")
    anatomy, text = find_anatomy(loaded.model), encode_text(loaded, "You idiot")
    with pytest.raises(InputError, match=f"tokens 0-{len(text.ids) - 1}"):
        read_predictions(loaded, anatomy, text, [0], positions=[len(text.ids)])
    with pytest.raises(InputError, match="Layer 3 is outside the model: its layers are 0-2"):
        read_predictions(loaded, anatomy, text, [3])
