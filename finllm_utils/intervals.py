"""How sure a share is: Wilson's interval, the one that every figure of a share uses."""

import math
from statistics import NormalDist

Interval = tuple[float, float]


def wilson_interval(num_right: float, num_items: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share; it stays inside [0, 1] even at the ends.

    Example: 5 right of 10 gives (0.237, 0.763).
    Source: Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.
    Raises: ValueError for no items, or more right than there are.
    """
    if num_items < 1 or not 0 <= num_right <= num_items:
        raise ValueError(
            f"{num_right} right of {num_items} items is not a share: an empty set has "
            "no interval"
        )
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = num_right / num_items
    scale = 1 + z * z / num_items
    middle = (share + z * z / (2 * num_items)) / scale
    spread = share * (1 - share) / num_items + (z / (2 * num_items)) ** 2
    half = z * math.sqrt(spread) / scale
    low = middle - half if num_right > 0 else 0.0  # exact at the ends
    high = middle + half if num_right < num_items else 1.0
    return low, high
