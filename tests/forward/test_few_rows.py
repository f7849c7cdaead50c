"""A few rows times a weight matrix, shared among the cores: the same numbers, and the model as it was afterwards."""

import pytest
import torch

from detox_engine.forward import few_rows
from detox_engine.forward.few_rows import MOST_ROWS, few_rows_shared, multiply_columns, multiply_rows
from tests.models import FAMILIES, tiny_model


@pytest.mark.parametrize("inner, out", [(48, 64), (64, 29), (30, 21)])
@pytest.mark.parametrize("rows", [1, 2, 4, 5, MOST_ROWS])
def test_shared_products_equal_a_float64_reference(rows: int, inner: int, out: int) -> None:
    states, weight = torch.randn(rows, inner), torch.randn(inner, out)
    expected = (states.double() @ weight.double()).float()
    torch.testing.assert_close(multiply_rows(states, weight), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(multiply_columns(states, weight.T.contiguous()), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(few_rows, "LARGE", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_model_computes_the_same_with_shared_products(
    family: str, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = tiny_model(family)
    taken = []
    for name in ("multiply_rows", "multiply_columns"):
        real = getattr(few_rows, name)
        monkeypatch.setattr(few_rows, name, lambda *given, real=real: taken.append(given) or real(*given))
    ids = torch.arange(1, 6)[:, None]
    plain = model(ids).logits
    assert not taken
    with few_rows_shared(model):
        shared = model(ids).logits
        products = len(taken)
        model(ids[:1])
        assert len(taken) == products > 0
    torch.testing.assert_close(shared, plain, rtol=1e-4, atol=1e-4)


def test_the_layers_are_as_they_were_also_after_a_failure(two_threads: None) -> None:
    model, _ = tiny_model("gpt2")
    with pytest.raises(KeyError), few_rows_shared(model):
        assert any("forward" in vars(layer) for layer in model.modules())
        raise KeyError
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_products_are_left_alone_where_the_library_shares_them(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = tiny_model("gpt2")
    monkeypatch.setattr(few_rows, "MANY_THREADS", 2)
    with few_rows_shared(model):
        assert not any("forward" in vars(layer) for layer in model.modules())
