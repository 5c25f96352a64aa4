"""The table of runtimes. Each opens a model file and gives a function from named arrays to the chunk; no torch."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from numpy import ndarray

from onedp.errors import OneDPError, unknown_choice

Run = Callable[[Mapping[str, ndarray]], ndarray]
"""From a graph's inputs by name, float32, to its output. May be called from several threads."""

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
PRECISIONS = (FLOAT32, BFLOAT16, INT8)
"""What a graph computes its products in. int8 is written into the graph, bfloat16 is a setting of the runtime."""
PRECISION_NAMES = {
    "fp32": FLOAT32,
    "float32": FLOAT32,
    "bf16": BFLOAT16,
    "bfloat16": BFLOAT16,
    "int8": INT8,
}
"""What users write to what manifests do."""
THREADS_PER_CORE = 4
"""More than the machine's cores may be asked for, to try it; far more is a slip of the hand."""


def parse_precision(text: str) -> str:
    """The precision that a user means; raises ``OneDPError``."""
    if text not in PRECISION_NAMES:
        raise OneDPError(unknown_choice("precision", text, PRECISION_NAMES))
    return PRECISION_NAMES[text]


def check_threads(threads: Any) -> int:
    """``threads`` if a runtime can be given so many; raises ``OneDPError``."""
    most = THREADS_PER_CORE * (os.cpu_count() or 1)
    if not isinstance(threads, Integral) or isinstance(threads, bool) or not 1 <= int(threads) <= most:
        raise OneDPError(f"threads is {threads!r}, expected a whole number from 1 to {most} on this machine.")
    return int(threads)


@dataclass(frozen=True)
class Runtime:
    """How one runtime is found and used."""

    package: str
    suffixes: tuple[str, ...]
    """Model files it reads."""
    precisions: tuple[str, ...]
    """Those it computes in."""
    open: Callable[[Path, int, str], Run]
    """Open a model file with so many threads and a precision."""
    extra: str
    """Extra of our distribution that installs it."""

    @property
    def installed(self) -> bool:
        """True when its package is there."""
        return importlib.util.find_spec(self.package) is not None


def _open_onnxruntime(path: Path, threads: int, precision: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))[0]


def _open_openvino(path: Path, threads: int, precision: str) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,  # more streams would share the threads among requests, and one request would not get them
        # the default is bf16 where the processor has it, which moves actions
        "INFERENCE_PRECISION_HINT": "bf16" if precision == BFLOAT16 else "f32",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(path)), "CPU", settings).create_infer_request()
    lock = threading.Lock()  # a request serves one caller at a time

    def run(inputs: Mapping[str, ndarray]) -> ndarray:
        with lock:
            return request.infer(dict(inputs))[0].copy()  # the request's own memory is written again next time

    return run


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime("onnxruntime", (".onnx",), (FLOAT32, INT8), _open_onnxruntime, "robot"),
    "openvino": Runtime("openvino", (".onnx", ".xml"), (FLOAT32, BFLOAT16), _open_openvino, "openvino"),
}
"""OpenVINO 2026.4 crashes, and with it the process, on ONNX Runtime's int8 matrix products.

In the order in which ``auto`` tries them: the ONNX graph is shaped for ONNX Runtime, which runs it faster."""


def usable_runtimes(model: str, precision: str = FLOAT32) -> list[str]:
    """Installed runtimes that read the model file and compute in ``precision``, in the order of preference."""
    return [
        name
        for name, runtime in RUNTIMES.items()
        if runtime.installed and Path(model).suffix in runtime.suffixes and precision in runtime.precisions
    ]


def processor_has_bfloat16() -> bool:
    """Whether OpenVINO would really compute in bfloat16 here; elsewhere it takes float32 in silence."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def open_model(name: str, path: Path, threads: int, precision: str = FLOAT32) -> Run:
    """Open ``path`` with the runtime ``name``; raises ``OneDPError`` when it cannot."""
    runtime = RUNTIMES[name]
    if path.suffix not in runtime.suffixes:
        raise OneDPError(
            f"The runtime '{name}' reads {' and '.join(runtime.suffixes)}, not {path.name}. Use another runtime or "
            "export with another --to."
        )
    if precision not in runtime.precisions:
        raise OneDPError(
            f"The runtime '{name}' computes in {' and '.join(runtime.precisions)}, not in {precision}. Use another "
            "runtime or export with another --precision."
        )
    if not runtime.installed:
        raise OneDPError(
            f"The runtime '{name}' is not installed. Install it with: pip install 'onedp[{runtime.extra}]'"
        )
    threads = check_threads(threads)
    try:
        return runtime.open(path, threads, precision)
    except Exception as error:  # each runtime has exceptions of its own
        raise OneDPError(
            f"The runtime '{name}' cannot open {path}: {str(error).splitlines()[0] if str(error) else error!r}."
        ) from error
