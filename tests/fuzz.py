"""How many examples a property is tried on, and what strangers' files may hold: `make fuzz` tries far more."""

import os

from hypothesis import strategies as some

EXAMPLES = int(os.environ.get("DETOX_FUZZ", "40"))


def anything() -> some.SearchStrategy:
    """Whatever JSON can say, numbers without bounds and texts without sense."""
    plain = (
        some.none()
        | some.booleans()
        | some.integers()
        | some.sampled_from([10**9, -1, 0, 2**63, 1e308, "all", "../x", "/etc/passwd", "~root", "\0", "9" * 5000])
        | some.floats()
        | some.text(max_size=40)
    )

    def nest(part: some.SearchStrategy) -> some.SearchStrategy:
        return some.lists(part, max_size=4) | some.dictionaries(some.text(max_size=9), part, max_size=4)

    return some.recursive(plain, nest, max_leaves=8)
