"""The command ``onedp``: one dataclass per verb, read by tyro. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from onedp.cli.compare import Compare
from onedp.cli.demo import Demo
from onedp.cli.distill import Distill
from onedp.cli.evaluate import Evaluate
from onedp.cli.inspect import Inspect
from onedp.cli.train import Train
from onedp.errors import OneDPError

Verb = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Distill, tyro.conf.subcommand("distill")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; errors a user can mend are printed in one message and end with exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    if debug:
        arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        verb = tyro.cli(
            Verb,
            prog="onedp",
            description="Make a diffusion policy answer in one network pass. "
            "Any verb takes --debug for tracebacks; ONE VERB --help shows its options.",
            args=arguments,
        )
        verb.run()
    except OneDPError as error:
        if debug:
            raise
        print(f"onedp: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("onedp: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
