"""A portrait becomes a GLB file, with previews on the way; Ctrl-C cancels. Standard library only.

    python portrait_to_glb.py LIBTOPOS_RT MODEL.topos PORTRAIT HEAD.glb [ONNXRUNTIME [SEED]]

PORTRAIT is a PNG or JPEG file where the library was built with their decoders, or a binary PPM.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_float, c_int32, c_uint8, c_uint32, c_uint64
from ctypes import c_void_p as Pointer
from pathlib import Path
from typing import Any, BinaryIO

OK, PENDING, IMAGE, IO, ABI = 0, 1, -2, -4, 1
ENCODED, RGB8 = 0, 1
TEXTURE_AUTO = 1  # the skin of the picture


class Struct(ctypes.Structure):
    """A struct of topos_rt.h, which says its own size."""

    def __init__(self, **members: Any) -> None:
        super().__init__(ctypes.sizeof(self), **members)


class Error(Struct):
    _fields_ = (("struct_size", c_uint32), ("status", c_int32), ("message", c_char * 504))


class RuntimeOptions(Struct):
    _fields_ = (
        ("struct_size", c_uint32), ("log_level", c_int32), ("log", Pointer), ("log_user", Pointer),
        ("allocator", Pointer), ("threads", Pointer), ("num_threads", c_uint32), ("flags", c_uint32),
        ("ort_api_base", Pointer), ("ort_library", c_char_p), ("cache_dir", c_char_p),
        ("rtx_library", c_char_p),
    )  # fmt: skip


class Source(Struct):
    _fields_ = (
        ("struct_size", c_uint32), ("flags", c_uint32), ("path", c_char_p), ("data", Pointer),
        ("data_size", c_uint64), ("release", Pointer), ("release_user", Pointer), ("offset", c_uint64),
        ("size", c_uint64),
    )  # fmt: skip


class Image(Struct):
    _fields_ = (
        ("struct_size", c_uint32), ("format", c_int32), ("data", c_char_p), ("data_size", c_uint64),
        ("width", c_uint32), ("height", c_uint32), ("row_stride", c_int32), ("orientation", c_uint32),
    )  # fmt: skip


class Request(Struct):
    _fields_ = (
        ("struct_size", c_uint32), ("preset", c_uint32), ("images", POINTER(Image)), ("num_images", c_uint32),
        ("num_seeds", c_uint32), ("seeds", POINTER(c_uint64)), ("set", c_uint32), ("steps", c_uint32),
        ("solver", c_int32), ("reuse", c_uint32), ("guidance", c_double), ("shift", c_double),
        ("temperature", c_double), ("interval", c_double * 2), ("times", POINTER(c_double)),
        ("num_times", c_uint32), ("flags", c_uint32), ("preview_every", c_uint32), ("progress", Pointer),
        ("progress_user", Pointer), ("face", c_uint32), ("crop", c_uint32), ("crop_box", c_int32 * 4),
        ("latents", POINTER(c_float)), ("num_latents", c_uint64), ("texture", c_int32),
        ("texture_size", c_uint32),
    )  # fmt: skip


class HeadInfo(Struct):
    _fields_ = (
        ("struct_size", c_uint32), ("has_rig", c_uint32), ("is_preview", c_uint32), ("step", c_uint32),
        ("seed", c_uint64), ("bounds_min", c_float * 3), ("bounds_max", c_float * 3),
        ("topology_id", c_uint8 * 32), ("metadata", c_char_p),
    )  # fmt: skip


Write = ctypes.CFUNCTYPE(c_int32, Pointer, Pointer, c_uint64)
# The arguments of each function that is called; without them ctypes would cut pointers to 32 bits.
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "abi_version": (c_uint32, []),
    "status_name": (c_char_p, [c_int32]),
    "runtime_create": (c_int32, [POINTER(RuntimeOptions), POINTER(Pointer), POINTER(Error)]),
    "runtime_release": (None, [Pointer]),
    "model_load": (c_int32, [Pointer, POINTER(Source), Pointer, POINTER(Pointer), POINTER(Error)]),
    "model_release": (None, [Pointer]),
    "submit": (c_int32, [Pointer, POINTER(Request), POINTER(Pointer), POINTER(Error)]),
    "job_wait": (c_int32, [Pointer, c_uint32]),
    "job_cancel": (None, [Pointer]),
    "job_get_error": (c_int32, [Pointer, POINTER(Error)]),
    "job_take_head": (c_int32, [Pointer, c_uint32, POINTER(Pointer)]),
    "job_take_preview": (c_int32, [Pointer, POINTER(Pointer), POINTER(c_uint32)]),
    "job_release": (None, [Pointer]),
    "head_get_info": (c_int32, [Pointer, POINTER(HeadInfo)]),
    "head_release": (None, [Pointer]),
    "head_write_glb": (c_int32, [Pointer, c_uint32, c_uint32, Write, Pointer, POINTER(Error)]),
}


class ToposError(Exception):
    """A call that failed: its status, and the line that says why."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Library:
    """The functions of the library, without their prefix."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(os.path.abspath(path))
        for name, (returns, arguments) in FUNCTIONS.items():
            function = getattr(library, f"topos_{name}")
            function.restype, function.argtypes = returns, arguments
            setattr(self, name, function)
        if (abi := self.abi_version()) != ABI:
            raise ToposError(-6, f"{path}: got ABI {abi}; expected {ABI}; fix: use the header's own library")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no function topos_{name} in FUNCTIONS")

    def made(self, name: str, *arguments: Any) -> Pointer:
        """Call a function that makes a handle. Raises ToposError."""
        handle, error = Pointer(), Error()
        status = getattr(self, name)(*arguments, byref(handle), byref(error))
        if status != OK:
            raise ToposError(status, error.message.decode())
        return handle


def read_image(path: str) -> Image:
    """Return the pixels of a PPM, and the bytes of any other file as they are."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ToposError(IO, f"{path} cannot be read: {error.strerror}") from None
    if not data.startswith(b"P6"):
        return Image(format=ENCODED, data=data, data_size=len(data))
    found = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", data)
    width, height = map(int, found.groups()) if found else (0, 0)
    pixels = data[found.end() :] if found else b""
    if found is None or len(pixels) < 3 * width * height:
        raise ToposError(IMAGE, f"{path}: a damaged PPM")
    return Image(format=RGB8, data=pixels, data_size=3 * width * height, width=width, height=height)


def wait(lib: Library, job: Pointer) -> None:
    """Wait for a job and tell of its previews. Ctrl-C cancels it. Raises ToposError where it failed."""
    status = PENDING
    while status == PENDING:
        try:
            status = lib.job_wait(job, 50)
            tell_preview(lib, job)
        except KeyboardInterrupt:
            lib.job_cancel(job)
    if status != OK:
        error = Error()
        lib.job_get_error(job, byref(error))
        raise ToposError(status, error.message.decode())


def tell_preview(lib: Library, job: Pointer) -> None:
    preview, step, info = Pointer(), c_uint32(), HeadInfo()
    if lib.job_take_preview(job, byref(preview), byref(step)) == OK:
        lib.head_get_info(preview, byref(info))
        lib.head_release(preview)
        tall = 1000 * (info.bounds_max[1] - info.bounds_min[1])
        print(f"after step {step.value}: {tall:.0f} mm tall", flush=True)


def write_glb(lib: Library, head: Pointer, file: BinaryIO) -> None:
    def write(user: int | None, data: int, size: int) -> int:
        try:
            file.write(ctypes.string_at(data, size))
        except OSError:
            return 1  # an exception must not cross the border
        return 0

    error = Error()
    status = lib.head_write_glb(head, 0, 0, Write(write), None, byref(error))
    if status != OK:
        raise ToposError(status, error.message.decode())


def make(lib: Library, model: Pointer, image: Image, seed: int, path: str) -> None:
    """Make a head, and write it beside its place, then rename it: no half file is ever seen."""
    request = Request(images=ctypes.pointer(image), num_images=1, num_seeds=1, preview_every=4)
    request.texture = TEXTURE_AUTO
    request.seeds = ctypes.pointer(c_uint64(seed))
    job, head = lib.made("submit", model, byref(request)), Pointer()
    try:
        wait(lib, job)
        if (status := lib.job_take_head(job, 0, byref(head))) != OK:
            raise ToposError(status, "the job has no head")
    finally:
        lib.job_release(job)
    try:
        with open(f"{path}.part", "wb") as file:
            write_glb(lib, head, file)
        os.replace(f"{path}.part", path)
    except OSError as error:
        raise ToposError(IO, f"{path}: {error.strerror}") from None
    finally:
        lib.head_release(head)
        Path(f"{path}.part").unlink(missing_ok=True)


def run(words: list[str]) -> None:
    lib, image = Library(words[0]), read_image(words[2])
    options = RuntimeOptions(ort_library=words[4].encode() if len(words) > 4 else None)
    runtime, model = None, None
    try:
        runtime = lib.made("runtime_create", byref(options))
        model = lib.made("model_load", runtime, byref(Source(path=words[1].encode())), None)
        make(lib, model, image, int(words[5]) if len(words) > 5 else 0, words[3])
    except ToposError as error:
        sys.exit(f"error: {lib.status_name(error.status).decode()} {error}")
    finally:
        lib.model_release(model)
        lib.runtime_release(runtime)
    print(words[3])


if __name__ == "__main__":
    if not 5 <= len(sys.argv) <= 7:
        print(
            f"usage: {sys.argv[0]} LIBTOPOS_RT MODEL.topos PORTRAIT HEAD.glb [ONNXRUNTIME [SEED]]",
            file=sys.stderr,
        )
        sys.exit(2)
    try:
        run(sys.argv[1:])
    except (ToposError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
