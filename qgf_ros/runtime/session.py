"""ONNX Runtime sessions with the settings that matter to a control loop."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import onnxruntime

from qgf_ros.bundle.text import one_line
from qgf_ros.errors import BundleError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
RUNTIME_VERSION: str = onnxruntime.__version__
_log = logging.getLogger(__name__)


def full_name(provider: str) -> str:
    """Return the name of an execution provider of which the short form may be given: cpu, cuda or tensorrt."""
    return {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}.get(provider, provider)


def choose_providers(wanted: Sequence[str]) -> list[str]:
    """Return the wanted execution providers that this ONNX Runtime has, the CPU last.

    Args:
        wanted: Provider names in order of preference, such as ``CUDAExecutionProvider``; the short forms ``cpu``,
            ``cuda`` and ``tensorrt`` work too.
    """
    names = [full_name(name) for name in wanted]
    available = onnxruntime.get_available_providers()
    for name in names:
        if name not in available:
            _log.warning(
                "provider %s is not in this ONNX Runtime, which has %s; falling back", name, ", ".join(available)
            )
    chosen = [name for name in names if name in available and name != CPU]
    return [*chosen, CPU]


def provider_options(provider: str, *, capture: bool) -> dict[str, str]:
    """Return the options of an execution provider.

    Args:
        provider: Its name.
        capture: Whether the session is run over fixed buffers and may capture its graph, to replay it at every later run.
    """
    flag = str(int(capture))
    if provider == CUDA:
        return {"use_tf32": "0", "enable_cuda_graph": flag}  # TF32 would leave 10 bits of each weight
    return {"trt_cuda_graph_enable": flag} if provider == TENSORRT else {}


def open_session(
    model: bytes, name: str, providers: Sequence[str], threads: int, *, spin: bool = False, capture: bool = False
) -> onnxruntime.InferenceSession:
    """Load one ONNX model.

    Args:
        model: Its bytes, as they were checked; it holds all its weights.
        name: What it is called in a message.
        providers: From `choose_providers`.
        threads: Threads per operator.
        spin: Whether they wait for the next operator of a run awake; after a run they always sleep, so that nothing
            burns a core between ticks.
        capture: See `provider_options`.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Denormals are 100 times slower to multiply and mean nothing here.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # Its own format would be read without the checks of ONNX.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 3
    asked = [(provider, provider_options(provider, capture=capture)) for provider in providers]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=asked)
    except Exception as error:  # ONNX Runtime raises a class of its own for each cause
        reason = f"{name}: ONNX Runtime cannot load it ({error}); export the bundle again"
        raise BundleError(one_line(reason)) from error
    missing = [provider for provider in providers if provider not in session.get_providers()]
    if missing:  # it is built in, but its libraries or its device are not there
        _log.warning("%s: %s could not start; it runs on %s", name, ", ".join(missing), session.get_providers()[0])
    return session
