"""The C library through ctypes: its structs are read from the header, so that they cannot differ from it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).parents[2] / "sdk/include/topos_rt.h"
PORTRAIT = Path(__file__).parents[2] / "examples/hopper.jpg"
_TYPES: dict[str, Any] = {
    "uint8_t": ctypes.c_uint8, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64, "float": ctypes.c_float, "double": ctypes.c_double, "char": ctypes.c_char,
}  # fmt: skip


@cache
def header() -> str:
    """Return the header without comments and preprocessor lines."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    return re.sub(r"^ *#.*(\\\n.*)*$", "", text, flags=re.MULTILINE)


@cache
def constants() -> dict[str, int]:
    """Return the enumerators of the header, by name."""
    found: dict[str, int] = {}
    for body in re.findall(r"\benum\s*{([^}]*)}", header()):
        for name, value in re.findall(r"(TOPOS_\w+)\s*=\s*(-?\d+)u?", body):
            found[name] = int(value)
    return found


@cache
def structs() -> dict[str, type[ctypes.Structure]]:
    """Return the structs of the header, by name."""
    types = dict(_TYPES)
    for plain, name in re.findall(r"typedef (u?int32_t) (topos_\w+);", header()):
        types[name] = _TYPES[plain]
    made: dict[str, type[ctypes.Structure]] = {}
    for name, body in re.findall(r"typedef struct (topos_\w+) {(.*?)} \1;", header(), flags=re.DOTALL):
        fields: list[tuple[str, Any]] = []
        for line in (part.strip() for part in body.split(";")):
            if line:
                fields += _fields(line, types)
        made[name] = type(name, (ctypes.Structure,), {"_fields_": fields})
    return made


def _fields(line: str, types: dict[str, Any]) -> list[tuple[str, Any]]:
    if pointer := re.match(r".*?\(TOPOS_CALL \*(\w+)\)", line):
        return [(pointer[1], ctypes.c_void_p)]
    words = re.match(r"(?:const )?(\w+) (.*)$", line, flags=re.DOTALL)
    assert words is not None, line
    fields = []
    for part in words[2].split(","):
        name = part.strip()
        if name.startswith("*"):
            fields.append((name.lstrip("* "), ctypes.c_char_p if words[1] == "char" else ctypes.c_void_p))
        elif size := re.match(r"(\w+)\[(\d+)\]", name):
            fields.append((size[1], types[words[1]] * int(size[2])))
        else:
            callback = words[1].endswith("_callback")
            fields.append((name, ctypes.c_void_p if callback else types[words[1]]))
    return fields


def struct(name: str, **values: Any) -> Any:
    """Return a struct with its size set, and some members."""
    made = structs()[f"topos_{name}"]()
    made.struct_size = ctypes.sizeof(made)
    for key, value in values.items():
        setattr(made, key, value)
    return made


class CError(Exception):
    """A status other than success."""

    def __init__(self, status: int, message: str = "") -> None:
        self.status, self.message = status, message
        self.name = next((name for name, value in constants().items() if value == status), str(status))
        super().__init__(f"{self.name}: {message}")


PENDING = 1
Mesh = tuple[np.ndarray, np.ndarray]  # positions and normals
_RETURNS = {"const char *": ctypes.c_char_p, "void": None, "uint32_t": ctypes.c_uint32}


class Api:
    """The functions of one library. A handle is an int."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lib = ctypes.CDLL(str(path))
        for name in re.findall(r"TOPOS_CALL (topos_\w+)\(", header()):
            text = re.search(rf"TOPOS_API ([^;]*?)TOPOS_CALL {name}\(", header())
            assert text is not None
            kind = text[1].split("TOPOS_API")[-1].strip()
            function = getattr(self.lib, name)
            function.restype = {
                "const char *": ctypes.c_char_p,
                "void": None,
                "uint32_t": ctypes.c_uint32,
            }.get(kind, ctypes.c_int32)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function without looking at what it returns."""
        return getattr(self.lib, f"topos_{name}")(*map(_passed, arguments))

    def ok(self, name: str, *arguments: Any) -> None:
        """Call a function whose last argument is an error, which is added. Raises CError."""
        error = struct("error")
        status = self.call(name, *arguments, error)
        if status != 0:
            assert error.status == status
            raise CError(status, error.message.decode())

    def made(self, name: str, *arguments: Any) -> int:
        """Call a function that makes a handle, whose place and the error are added. Raises CError."""
        out = ctypes.c_void_p(1)
        try:
            self.ok(name, *arguments, ctypes.byref(out))
        except CError:
            assert out.value is None
            raise
        assert out.value
        return out.value

    def told_status(self, name: str, kind: str, handle: int) -> Any:
        """Call a function that fills a struct, whatever the status that it returns."""
        out = struct(kind)
        self.call(name, Handle(handle), out)
        return out

    def told(self, name: str, kind: str, handle: int, *arguments: Any) -> Any:
        """Call a function that fills a struct. Raises CError."""
        out = struct(kind)
        status = self.call(name, Handle(handle), *arguments, out)
        if status != 0:
            raise CError(status)
        return out


class Handle(int):
    """An opaque pointer."""


def _passed(value: Any) -> Any:
    if isinstance(value, Handle):
        return ctypes.c_void_p(value)
    if isinstance(value, ctypes.Structure):
        return ctypes.byref(value)
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, int):
        return ctypes.c_uint64(value) if value >= 0 else ctypes.c_int64(value)
    return value


@contextmanager
def runtime(api: Api, ort: Path, threads: int = 1, **options: Any) -> Iterator[Handle]:
    """Make a runtime, and release it."""
    given = struct("runtime_options", ort_library=str(ort).encode(), num_threads=threads, **options)
    made = Handle(api.made("runtime_create", given))
    try:
        yield made
    finally:
        api.call("runtime_release", made)


def load(api: Api, runtime: Handle, pack: Path, flags: int = 0, **options: Any) -> Handle:
    """Load a pack from its file."""
    source = struct("source", path=str(pack).encode(), flags=flags)
    return Handle(api.made("model_load", runtime, source, struct("load_options", **options)))


def image(pixels: np.ndarray, orientation: int = 0) -> Any:
    """Return the struct of an image, which keeps its pixels [H,W,3 or 4] uint8."""
    kept = np.ascontiguousarray(pixels)
    height, width, channels = kept.shape
    made = struct(
        "image", format=1 if channels == 3 else 2, data=kept.ctypes.data, data_size=kept.nbytes, width=width,
        height=height, orientation=orientation,
    )  # fmt: skip
    made.kept = kept
    return made


SETS = ("steps", "solver", "guidance", "shift", "temperature", "interval", "reuse", "times")


CROP_AUTO, CROP_NONE, CROP_BOX = range(3)
NO_FACE_CHECK = 4


def request(images: Sequence[Any], seeds: Sequence[int] = (0,), flags: int = 0, **given: Any) -> Any:
    """Return a request; of `given`, those of SETS replace what the preset says.

    Pictures are taken whole, and no face is looked for, unless a crop is given.
    """
    whole = 0 if "crop" in given else NO_FACE_CHECK
    made = struct(
        "request", flags=flags | whole, num_images=len(images), num_seeds=len(seeds), crop=CROP_NONE
    )
    if images:
        kept = (type(images[0]) * len(images))(*images)
        made.images = ctypes.addressof(kept)
        made.kept = kept, list(images)
    numbers = np.array(seeds, np.uint64)
    made.seeds, made.kept_seeds = numbers.ctypes.data, numbers
    for name, value in given.items():
        if name in SETS:
            made.set |= 1 << SETS.index(name)
        if name == "interval":
            made.interval[:] = value
        elif name == "crop_box":
            made.crop_box[:] = value
        elif name == "times":
            times = np.array(value, np.float64)
            made.times, made.num_times, made.kept_times = times.ctypes.data, len(times), times
        elif name == "latents":
            made.latents, made.num_latents, made.kept_latents = value.ctypes.data, len(value), value
        else:
            setattr(made, name, value)
    return made


def generate(api: Api, model: Handle, wanted: Any, count: int = 1) -> list[Handle]:
    """Make all heads of a request on this thread. Raises CError."""
    heads = (ctypes.c_void_p * count)()
    api.ok("generate", model, wanted, heads, count)
    return [Handle(head) for head in heads]


def vertices(
    api: Api, model: Handle, head: Handle | None, layout: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and normals of a head, by default in the topology's order."""
    layout = struct("layout", flags=1) if layout is None else layout
    count = api.told("model_counts", "mesh_counts", model, layout).num_vertices
    out = np.empty((2, count, 3), np.float32)
    streams = (structs()["topos_stream"] * 2)()
    for stream, attribute, array in zip(streams, (1, 2), out, strict=True):
        stream.struct_size = ctypes.sizeof(stream)
        stream.attribute, stream.format, stream.data, stream.capacity = (
            attribute,
            2,
            array.ctypes.data,
            array.nbytes,
        )
    api.ok("write_vertices", model, head, layout, None, None, streams, 2)
    return out[0], out[1]


def latent(api: Api, model: Handle, head: Handle) -> np.ndarray:
    """Return the latent [N,D] of a head."""
    info = api.told("model_get_info", "model_info", model)
    out = np.empty((info.latent_tokens, info.latent_channels), np.float32)
    assert api.call("head_get_latent", head, out, out.size) == 0
    return out
