"""Which starts are for training data and which for evaluation."""

from __future__ import annotations

from onedp.errors import OneDPError

TEST_SEEDS_FROM = 100_000
"""Starts from here on are for evaluation; recordings of them would be a peek at the exam."""


def require_training_seeds(first: int, count: int, what: str) -> None:
    """Raise ``OneDPError`` unless the ``count`` starts from the seed ``first`` on are all below the test starts.

    ``what`` begins the message: the options that chose them.
    """
    if first < 0 or first + count > TEST_SEEDS_FROM:
        raise OneDPError(
            f"{what} reaches outside 0 to {TEST_SEEDS_FROM - 1}: the starts above are for evaluation. Choose a smaller "
            "seed or fewer episodes."
        )
