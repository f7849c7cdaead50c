"""The licence of an edit is that of its base, and what speaks against passing it on is said."""

import pytest

from detox_engine.data.bundled import BUNDLED_MODEL
from detox_engine.errors import InputError
from detox_engine.export.licence import Licence, check_licence, find_licence


def write_card(folder, content: str):
    (folder / "README.md").write_text(content)
    return find_licence(folder)


@pytest.mark.parametrize(
    ("front", "id", "shown", "warns"),
    [
        ("license: Apache-2.0", "apache-2.0", "apache-2.0", ""),
        ("license: llama3.2", "llama3.2", "llama3.2", ""),
        ("license: cc-by-nc-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-nd-4.0, forbids derivatives"),
        ("license: other\nlicense_name: acme-1\nlicense_link: LICENSE", "other", "acme-1", ""),
        ("license: my-own", None, "my-own", "“my-own”, which the Hub does not know"),
        ("license: CC BY-ND 4.0", None, "CC BY-ND 4.0", "forbids derivatives"),
        ("tags: [a]", None, "", "do not name its licence"),
        ("license: [mit, gpl]", None, "", "do not name its licence"),
        ("license: 3", None, "", "do not name its licence"),
        ("license: [", None, "", "do not name its licence"),
    ],
)
def test_a_card_tells_it(tmp_path, front, id, shown, warns):
    found = write_card(tmp_path, f"---\n{front}\n---\n# A model\n")
    assert (found.id, found.shown) == (id, shown)
    assert (warns in found.warning) if warns else not found.warning


def test_no_card_and_one_without_front_matter_tell_nothing(tmp_path, capfd):
    assert find_licence(tmp_path) == Licence() == write_card(tmp_path, "# A model\n")
    assert capfd.readouterr() == ("", "")


def test_models_at_hand_tell_theirs():
    assert find_licence(BUNDLED_MODEL).id == "mit"


def test_a_person_may_say_it_if_the_hub_knows_it(tmp_path):
    assert find_licence(tmp_path, "gemma") == Licence("gemma")
    for said in ("mine", "MIT", ""):
        with pytest.raises(InputError, match="does not know the licence"):
            check_licence(said)
