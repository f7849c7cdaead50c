"""Where an edit begins: published settings for published models, a stated rule for others."""

import json

import pytest

from detox_engine.errors import InputError
from detox_engine.study import suggest
from detox_engine.study.suggest import Preset


def test_published_models_get_the_papers_layers_and_rank_both_ends_included():
    assert suggest.suggest("openai-community/gpt2-medium", 24, (5,) * 24) == Preset(tuple(range(10, 24)), 2)
    assert suggest.suggest("/models/gpt-j-6B/", 28, (5,) * 28) == Preset(tuple(range(10, 27)), 10)
    assert suggest.suggest("mistralai/Mistral-7B-v0.1", 32, (5,) * 32).layers == tuple(range(15, 32))
    assert suggest.suggest("facebook/opt-6.7b", 32, (5,) * 32).layers == tuple(range(10, 32))


def test_a_name_that_only_looks_published_does_not_get_layers_that_the_model_lacks():
    assert suggest.suggest("mine/gpt2-medium", 6, (1, 1, 1, 2, 3, 9)).layers == (2, 3, 4, 5)


@pytest.mark.parametrize(("ranks", "rank"), [((0,) * 10, 1), ((9, 9, 9, 9, 1, 2, 3, 4, 5, 6), 3), ((40,) * 10, 10)])
def test_other_models_get_the_upper_layers_and_the_middle_of_their_ranks_within_the_published_ones(ranks, rank):
    assert suggest.suggest("some/model", 10, ranks) == Preset((4, 5, 6, 7, 8, 9), rank)


def test_a_model_of_one_layer_has_a_suggestion():
    assert suggest.suggest("some/model", 1, (2,)) == Preset((0,), 2)


def test_the_bundled_setting_is_read_from_the_file_that_the_check_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(suggest, "BUNDLED_MODEL", tmp_path / "model")
    with pytest.raises(InputError, match="missing or broken"):
        suggest.suggest("bundled", 8, (1,) * 8)
    (tmp_path / "defaults.json").write_text(json.dumps({"layers": "2-5", "rank": 3}))
    assert suggest.suggest("bundled", 8, (1,) * 8) == Preset((2, 3, 4, 5), 3)
