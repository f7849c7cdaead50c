"""What two computations of the same numbers owe each other: all that is no float exactly, floats to rounding."""

import math

ROUNDING = 1e-5
"""How far a float32 result may lie from one summed in another order, as a share of its size: some 100 units of its
last place, since the sums behind it have hundreds of terms. The order hangs on the processor, on the number of
threads, on the rows beside it and on where in memory they lie."""


def assert_alike(found: object, expected: object, place: str = "", within: float = ROUNDING) -> None:
    """Hold two records, as JSON has them, against each other: floats to rounding, everything else exactly."""
    if isinstance(expected, dict):
        assert isinstance(found, dict) and list(found) == list(expected), place
        for key, value in expected.items():
            assert_alike(found[key], value, f"{place}.{key}", within)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_alike(one, other, f"{place}[{index}]", within)
    elif isinstance(expected, float) and isinstance(found, (float, int)):
        both_nan = math.isnan(found) and math.isnan(expected)
        assert both_nan or math.isclose(found, expected, rel_tol=within, abs_tol=within), (place, found, expected)
    else:
        assert found == expected, place
