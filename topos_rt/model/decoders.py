"""Which decoder turns latents into vertices: a backend's engine, or one of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from topos_rt.errors import BackendError, BundleError, InputError, MissingExtraError, choose

if TYPE_CHECKING:
    from topos_rt.model.decoder import Decoder

T = TypeVar("T")

# The ways to decode latents -> what each means. The default follows from times on an H100: docs/kernels.md.
DECODERS = {
    "auto": "our kernels on a GPU in FP16, our compiled passes on a CPU with AVX2 or AVX-512, where they are"
    " built and fit the model; else the engine",
    "engine": "the backend's engine",
    "kernels": "our kernels on a GPU, in FP16",
    "native": "our compiled passes on the CPU, in FP32",
    "numpy": "the kernels' NumPy twins, on the CPU",
}
DEFAULT_DECODER: Final = "auto"


def with_own_decoder(decoder: str, precision: str | None, use: Callable[[type[Decoder]], T]) -> T | None:
    """Return `use` of the decoder class that one of DECODERS names, or None where the engine decodes.

    precision: of the engine on a GPU; None on a CPU. "auto" falls back to the engine where `use` raises.
    Raises OptionError for an unknown decoder, and what `use` raises.
    """
    choose(decoder, DECODERS, "decoder")
    auto = decoder == "auto"
    if auto:
        decoder = _best(precision)
    if decoder == "engine":
        return None
    try:
        return use(_class_of(decoder))
    except (BackendError, BundleError, InputError):
        if not auto:
            raise
        return None
    except ModuleNotFoundError as error:  # NVIDIA's bindings; without them no backend runs on a GPU either
        raise MissingExtraError.needs(f"the decoder {decoder!r}", "tensorrt-rtx") from error


def _best(precision: str | None) -> str:
    """Return the name of the decoder to try first."""
    if precision is not None:
        return "kernels" if precision == "fp16" else "engine"
    from topos_rt.model.native_decoder import PLAIN, instruction_sets

    # Without vectors of eight numbers or more, it is no faster than the engine.
    return "engine" if instruction_sets()[:1] in ([], [PLAIN]) else "native"


def _class_of(decoder: str) -> type[Decoder]:
    if decoder == "native":
        from topos_rt.model.native_decoder import NativeDecoder

        return NativeDecoder
    from topos_rt.model.decoder import KernelDecoder, NumpyDecoder

    return NumpyDecoder if decoder == "numpy" else KernelDecoder
