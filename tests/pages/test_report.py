"""The report is one file that needs no network, says what was measured, and shows no toxic word unasked."""

import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest

from detox_engine.disk import write_json
from detox_engine.errors import InputError
from detox_engine.estimates import Estimate
from detox_engine.export.report import Told, read_for_report, write_report
from detox_engine.plans.edit import EditPlan, record_edit
from detox_engine.plans.evaluation import EvaluationPlan, SweepPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import TextSpec
from detox_engine.scoring.records import read_evaluation
from detox_engine.scoring.sweep import run_sweep
from detox_engine.study.study import Study
from detox_engine.study.suggestion import Suggestion, Tried
from pages.report.__main__ import main
from pages.report.document import draw_report
from pages.report.told import Shown, read_readings
from tests.models import SENTENCES
from tests.pages.conftest import EDIT, HOSTILE

PAPERS = EditPlan((1, 2), 2)


class Reader(HTMLParser):
    """What a document has besides its scripts: tags, and texts that stand in nothing blurred."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.shown: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        found = dict(attributes)
        self.tags.append((tag, found))
        if tag not in ("meta", "input", "br", "img"):
            self.open.append("rude" if found.get("class") == "rude" else tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style", "rude"} & set(self.open):
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.shown)


def draw(study: Study, **more) -> Reader:
    return Reader(draw_report(study, Shown(**({"edit": EDIT, "model": "a model"} | more))))


def test_it_says_what_was_measured_and_draws_it(fitted, record):
    model, study = fitted
    readings = read_readings(read_for_report(model, study, EDIT))
    seen = draw(study, evaluation=read_evaluation(record), readings=readings)
    kept = record["scorers"]["perplexity"]
    assert f"{kept['before']['mean']:.1f}"[:3] in seen.text
    for words in ("What the edit does", "What it writes", "Where it lies", "What it means", "Texts along it"):
        assert words in seen.text
    assert sum(tag == "figure" for tag, _ in seen.tags) == 6 and len(readings) == 3
    assert study.model.weights_hash in seen.text and record["sources"]["prompts"] in seen.text


def test_nothing_of_others_becomes_markup_and_nothing_comes_from_a_network(fitted, record):
    _, study = fitted
    html = draw_report(study, Shown(EDIT, HOSTILE, evaluation=read_evaluation(record)))
    seen = Reader(html)
    assert not [tag for tag, _ in seen.tags if tag in ("img", "iframe", "link", "object", "embed", "form")]
    assert not [found for _, found in seen.tags if any(name.startswith("on") for name in found)]
    assert not [found for _, found in seen.tags if "src" in found or "href" in found]
    assert "alert(1)" in seen.text and "<script>alert" not in html
    policy = next(found["content"] for tag, found in seen.tags if found.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "http" not in policy and "eval" not in policy


def test_toxic_words_are_blurred_in_texts_and_masked_in_charts(fitted, record):
    _, study = fitted
    html = draw_report(study, Shown(EDIT, "a model", evaluation=read_evaluation(record)))
    assert "idiot" not in Reader(html).text
    drawn = [script for script in re.findall(r"<script.*?</script>", html, re.S) if "Plotly.newPlot" in script]
    assert (
        drawn
        and all("idiot" not in script for script in drawn)
        and any("i••••" in script or "i\\u2022" in script for script in drawn)
    )
    assert '<span class="rude">idiot</span>' in html


def test_a_study_alone_is_a_report_too_and_says_what_is_missing(fitted):
    _, study = fitted
    seen = draw(replace(study, embeddings=None), edit=PAPERS)
    assert "not evaluated" in seen.text and "Texts along it" not in seen.text and "What it means" not in seen.text


def test_what_else_was_tried_is_drawn_from_the_suggestion_or_from_a_sweep(fitted, tmp_path):
    model, study = fitted
    gap = Estimate(0.4, 0.3, 0.5, 30)
    tried = (Tried(EDIT, 0.4, 0.01, gap, 0.012, 1.01), Tried(PAPERS, 0.3, 0.01, replace(gap, mean=0.35), 0.01, 1.0))
    suggesting = replace(study, suggestion=Suggestion(EDIT, "gentle", "It is the best.", tried))
    assert "2 edits that were measured" in draw(suggesting).text
    assert "What else was tried" not in draw(study).text
    (tmp_path / "neutral.txt").write_text("\n".join(SENTENCES[:2]))
    (tmp_path / "prompts.txt").write_text("\n".join(SENTENCES[:2]))
    measure = EvaluationPlan(
        ("profanity", "perplexity"), str(tmp_path / "prompts.txt"), sampling=SamplingPlan(max_new_tokens=2),
        neutral=TextSpec(str(tmp_path / "neutral.txt")), control="plain", controls=1, resamples=100,
    )  # fmt: skip
    sweep = run_sweep(model, study, SweepPlan((1, 2), (0, 1), evaluation=measure))
    assert "4 settings of a sweep" in draw(study, points=sweep.points).text


def test_a_verdict_stands_first(fitted, record):
    _, study = fitted
    criterion = {"question": "Is it good?", "answer": "unclear", "sentence": "Perhaps.", "settle": "Ask again."}
    verdict = {"verdict": "too little evidence", "reason": f"{HOSTILE} it may be.", "criteria": [criterion]}
    seen = draw(study, evaluation=read_evaluation(record), verdict=verdict)
    text = seen.text
    assert text.index("Too little evidence") < text.index("What the edit does") and "Ask again." in text


def test_the_engine_has_it_drawn_in_a_process_of_its_own(fitted, record, tmp_path):
    _, study = fitted
    study.save(tmp_path / "study")
    out = tmp_path / "report.html"
    write_report(tmp_path / "study", Told(EDIT, "a model", evaluation=record), out)
    seen = Reader(out.read_text(encoding="utf-8"))
    assert "What the edit does" in seen.text and out.stat().st_size < 8e6
    with pytest.raises(InputError, match="exists already"):
        write_report(tmp_path / "study", Told(EDIT, "a model"), out)
    # Beside them lies the cache of this test, in which the process keeps what it measured.
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"report.html", "study"}


def test_what_cannot_be_drawn_is_one_sentence(fitted, tmp_path, capsys):
    _, study = fitted
    with pytest.raises(InputError, match="layer"):
        draw_report(study, Shown(EditPlan((99,), 1), "a model"))
    told = tmp_path / "told.json"
    told.write_text(write_json(asdict(Told(EDIT, "a model")) | {"edit": record_edit(EDIT)}))
    assert main(str(tmp_path / "nothing"), str(told), str(tmp_path / "out.html")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is no study" in said
    study.save(tmp_path / "study")
    assert main(str(tmp_path / "study"), str(told), str(tmp_path / "no" / "out.html")) == 2
    assert "cannot be written" in capsys.readouterr().err
