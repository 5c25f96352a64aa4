"""Set-up of every test run."""

from __future__ import annotations

import os
import sys

import hypothesis

# No time limit for an example, since machines are shared; in continuous integration the same examples every time.
hypothesis.settings.register_profile("onedp", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("onedp")


def pytest_configure() -> None:
    """Let pytest rewrite the asserts of test modules, so that failures show values.

    The import hook of ``--jaxtyping-packages``, meant for our own code, stands before pytest's and would take them too.
    """
    hooks = [finder for finder in sys.meta_path if type(finder).__name__ == "AssertionRewritingHook"]
    sys.meta_path[:] = hooks + [finder for finder in sys.meta_path if finder not in hooks]
