"""A study of more pairs than are kept: every page works on the sample, and says how many pairs it rests on."""

import pytest

from detox_engine.study import fit
from tests.pages.conftest import open_app, run_until, texts
from ui.session import shared_models

PAIRS, SAMPLE = 38, 20


@pytest.fixture
def session(tiny_folder, monkeypatch):
    monkeypatch.setattr(fit, "SAMPLE", SAMPLE)
    session = open_app(model=tiny_folder, device="cpu", limit=PAIRS)
    if "The pairs in use" not in texts(session):
        session.button(key="fit").click().run()
        run_until(session, lambda session: "The pairs in use" in texts(session) and not session.session_state["jobs"])
    return session


def test_the_strip_counts_all_pairs_and_the_list_is_called_a_sample(session):
    shown = texts(session)
    assert f"{PAIRS} pairs" in shown and f"{2 * PAIRS} texts read" in shown
    assert f"of {SAMPLE}, a random sample of {PAIRS}." in shown
    assert f"a random {SAMPLE} are kept to be looked at" in shown
    study = shared_models.shelf().find_study(session.session_state["view"].study_key)
    assert study.moments is None and (len(study.pairs), study.pair_count) == (SAMPLE, PAIRS)


@pytest.mark.parametrize("page", ["spectrum", "directions", "map", "token_lens", "claims"])
def test_pages_that_show_pairs_work_on_the_sample(session, page):
    session.switch_page(f"{page}/page.py").run()
    assert not session.exception and not session.error
    if page == "spectrum":
        assert "needs the embeddings of all pairs" in texts(session)
        session.button(key="resample").click().run()
        run_until(session, lambda session: "with repeats" in texts(session))
        assert f"A draw has {SAMPLE} pairs, as many as are kept of {PAIRS}" in texts(session)
