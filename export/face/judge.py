"""Compare the converted networks with what they were converted from, run by their own libraries."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx

from topos_rt.errors import BackendError, MissingExtraError

# The largest difference allowed, as a share of the largest output. dlib's network was rounded to FP16.
TOLERANCES = {"face_detector": 1e-4, "face_landmarks": 1e-4, "face_expression": 1e-4, "face_identity": 2e-3}
_PICTURES = 3
Run = Callable[[np.ndarray], list[np.ndarray]]


def judge(name: str, model: onnx.ModelProto, original: bytes) -> float:
    """Return the largest difference to the original network, as a share of its largest output.

    The inputs are seeded: smooth pictures, or points in the unit square. Raises BackendError where the
    difference is above the tolerance, MissingExtraError where the original's library is not installed.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (feed,), names = session.get_inputs(), [output.name for output in session.get_outputs()]
    run, rng, worst = (_dlib if name == "face_identity" else _litert)(original), np.random.default_rng(0), 0.0
    for _ in range(_PICTURES):
        given = _smooth(rng, feed.shape)
        for got, want in zip(session.run(names, {feed.name: given}), run(given), strict=False):
            worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
    if not worst <= TOLERANCES[name]:
        raise BackendError(
            f"{name} in ONNX", got=f"a difference of {worst:.2g}", expected=f"at most {TOLERANCES[name]:g}"
        )
    return worst


def _smooth(rng: np.random.Generator, shape: list[int]) -> np.ndarray:
    if len(shape) < 4:
        return rng.random(shape, np.float32)
    coarse = rng.random((shape[0], 8, 8, shape[3]), np.float32)
    side = -(-shape[1] // 8)
    picture = coarse.repeat(side, 1).repeat(side, 2)[:, : shape[1], : shape[2]]
    # Whole numbers of 256ths of white, since dlib takes pictures of 8 bits.
    return np.rint((0.8 * picture + 0.2 * rng.random(shape, np.float32)) * 255).astype(np.float32) / 255


def _litert(data: bytes) -> Run:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingExtraError.needs("checking networks against TFLite files", "face") from error
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run(given: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(source["index"], given)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def _dlib(data: bytes) -> Run:
    try:
        import dlib
    except ImportError as error:
        raise MissingExtraError.needs("checking the identity network", "face") from error
    with contextlib.ExitStack() as held:
        file = Path(held.enter_context(tempfile.TemporaryDirectory()), "network.dat")
        file.write_bytes(data)
        network = dlib.face_recognition_model_v1(str(file))

    def run(given: np.ndarray) -> list[np.ndarray]:
        picture = np.rint(given[0] * 255).astype(np.uint8)
        return [np.array(network.compute_face_descriptor(picture))[None]]

    return run


def convert_all(
    converters: Mapping[str, Callable[[bytes], onnx.ModelProto]], read: Callable[[str], bytes]
) -> dict[str, tuple[onnx.ModelProto, float]]:
    """Convert and judge each network; return name -> its model and the difference to its original."""
    made = {}
    for name, convert in converters.items():
        original = read(name)
        model = convert(original)
        made[name] = model, judge(name, model, original)
    return made
