"""One Ray for all tests of the room, since it takes seconds to start, and two workers with a tiny model."""

from pathlib import Path

import pytest

from detox_engine.cluster.connection import connected
from detox_engine.cluster.crew import open_crew
from detox_engine.model.load import load_model
from detox_engine.plans.shared.cluster import LOCAL, ClusterPlan
from detox_engine.plans.sources import ModelSpec
from tests.models import save_tiny_model


@pytest.fixture(scope="session")
def ray():
    with connected(ClusterPlan(LOCAL, 2)) as ray:
        yield ray


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return save_tiny_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def model(folder):
    return load_model(ModelSpec(str(folder), device="cpu"))


@pytest.fixture(scope="session")
def crew(ray, model):
    """Two workers with the model."""
    with open_crew(ClusterPlan(LOCAL, 2), model) as crew:
        yield crew
