"""The command ``onedp``: a table of verbs. Only the chosen verb's module is imported, so ``--help`` is instant."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

VERBS = {
    "train": ("onedp.cli.train:Train", "demonstrations to a diffusion-policy teacher"),
    "collect": ("onedp.cli.collect:Collect", "demonstrations of a task by its scripted expert"),
    "record": ("onedp.cli.record:Record", "roll-outs of a policy, or those it lost, to distil on"),
    "import": ("onedp.cli.import_checkpoint:Import", "a LeRobot or diffusion_policy checkpoint to a teacher"),
    "distill": ("onedp.cli.distill:Distill", "a teacher to a student of one network pass"),
    "evaluate": ("onedp.cli.evaluate:Evaluate", "score, success and latency of one policy"),
    "compare": ("onedp.cli.compare:Compare", "several policies on the same starts, with a report"),
    "export": ("onedp.cli.export:Export", "a policy to one file that runs without PyTorch"),
    "latency": ("onedp.cli.latency:Latency", "how long a chunk takes, by runtime and threads"),
    "bench": ("onedp.cli.bench:Bench", "every method on one task, with a table"),
    "inspect": ("onedp.cli.inspect:Inspect", "what a data set or a policy is"),
    "push": ("onedp.cli.push:Push", "a policy to the hub"),
    "pull": ("onedp.cli.pull:Pull", "a policy from the hub"),
    "convert": ("onedp.cli.convert:Convert", "any data set to LeRobot's format"),
    "serve": ("onedp.cli.serve:Serve", "policies over websockets, for robots and openpi clients"),
    "live": ("onedp.cli.live:Live", "policies side by side on a web page, with a T to drag away"),
    "demo": ("onedp.cli.demo:Demo", "the main job on what the package ships, offline"),
}
"""Verb to the dataclass that reads its options, and a line about it."""


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; errors a user can mend are printed in one message and end with exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        raise SystemExit(0 if arguments else 2)
    if arguments[0] == "--version":
        import importlib.metadata

        print(f"onedp {importlib.metadata.version('onedp')}")
        return
    from onedp.errors import OneDPError

    if not debug:
        warnings.formatwarning = _plain_warning
    try:
        with _tidy_end():
            _run(arguments[0], arguments[1:])
    except OneDPError as error:
        if debug:
            raise
        print(f"onedp: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        if debug or (error.name or "").startswith("onedp"):
            raise
        print(
            f"onedp: this verb needs the package '{error.name}', which is not installed. "
            "Install everything with: pip install 'onedp[all]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("onedp: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


@contextmanager
def _tidy_end() -> Iterator[None]:
    """Let SIGTERM end this process and its workers as an exit does, so that temporary files go.

    Where somebody handles or ignores the signal already, nothing changes.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a forked worker
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        signal.signal(number, signal.SIG_IGN)  # a second one must not break into the tidying
        for worker in multiprocessing.active_children():
            worker.kill()  # SIGTERM is lost on a worker that is just being forked, and the wait for it would never end
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(verb: str, arguments: list[str]) -> None:
    from onedp.errors import OneDPError, unknown_choice

    if verb not in VERBS:
        raise OneDPError(unknown_choice("verb", verb, VERBS))
    import tyro

    module, name = VERBS[verb][0].split(":")
    options = getattr(importlib.import_module(module), name)
    tyro.cli(options, prog=f"onedp {verb}", args=arguments).run()


def _plain_warning(message: Warning | str, category: type[Warning], *place: object, **more: object) -> str:
    """A warning as a sentence, as errors are; file and line of our code help nobody who reads it."""
    return f"onedp: warning: {message}\n"


def _overview() -> str:
    verbs = "\n".join(f"  {verb:<10} {text}" for verb, (_, text) in VERBS.items())
    return (
        "usage: onedp VERB [options]\n\nMake a diffusion policy answer in one network pass.\n\n"
        f"verbs:\n{verbs}\n\n"
        "onedp VERB --help shows the options of a verb; --debug with any verb shows tracebacks; --version."
    )


if __name__ == "__main__":
    main()
