"""The compiled decoder: against its NumPy twin, over threads and instruction sets, and without it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import needs
from topos_rt import HeadPipeline
from topos_rt.engines import EngineOptions, backend
from topos_rt.errors import BackendError
from topos_rt.gpu import reference
from topos_rt.gpu.layers import GROUPS, Layer
from topos_rt.gpu.tables import Neighbours
from topos_rt.model import native_decoder
from topos_rt.model.bundle import Bundle
from topos_rt.model.decoder import NumpyDecoder
from topos_rt.model.decoder_steps import make_steps, read_tensors
from topos_rt.model.native_decoder import PLAIN, NativeDecoder, instruction_sets
from topos_rt.model.sources import engine_source
from topos_rt.support.native import native

SETS = instruction_sets()
needs.machine(SETS, "the compiled decoder was not built")
FUSED = [name for name in SETS if name != PLAIN]


def latents(steps: Any, count: int = 3) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((1, *steps.latent)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open("mini")


@pytest.fixture(scope="module")
def steps(bundle: Bundle) -> Any:
    return make_steps(read_tensors(bundle), bundle.hierarchy)


def test_mini_is_decoded_as_by_the_engine(bundle: Bundle, steps: Any) -> None:
    """Both are about as far from the truth: 1e-6 of a unit, which is the head's radius."""
    ort = backend("onnxruntime")
    truth = NumpyDecoder(steps, np.float64)
    with ort.load(*engine_source(bundle, "vae_decoder", ort, EngineOptions(1))) as engine:
        for latent in latents(steps):
            want = engine.run({"latent": latent})["vertices"]
            got = NativeDecoder.open(bundle).run({"latent": latent})["vertices"]
            exact = truth.run({"latent": latent})["vertices"]
            assert np.abs(got - want).max() <= 1e-5
            assert np.abs(got - exact).max() <= 2 * np.abs(want - exact).max()


def test_threads_and_instruction_sets_change_no_bit(steps: Any) -> None:
    for latent in latents(steps):
        made = {
            (name, threads): NativeDecoder(steps, threads, name).run({"latent": latent})["vertices"]
            for name, threads in itertools.product(SETS, (1, 2, 5))
        }
        for group in ([PLAIN], FUSED):
            same = [made[key] for key in made if key[0] in group]
            assert all(np.array_equal(same[0], other) for other in same)


def test_the_order_of_vertices_changes_nothing(bundle: Bundle, steps: Any) -> None:
    """Rows are computed alone, but the sources of a row come in another order, and so do their sums."""
    (latent,) = latents(steps, 1)
    ordered = NativeDecoder(steps).run({"latent": latent})["vertices"]
    plain = NativeDecoder.open(bundle, 1).run({"latent": latent})["vertices"]
    assert np.abs(ordered - plain).max() <= 1e-5


def test_every_output_is_its_own(steps: Any) -> None:
    decoder = NativeDecoder(steps, 2)
    a, b = latents(steps, 2)
    first = decoder.run({"latent": a})["vertices"]
    kept = first.copy()
    decoder.run({"latent": b})
    assert np.array_equal(first, kept) and np.array_equal(decoder.run({"latent": a})["vertices"], kept)


@st.composite
def graph_convs(draw: st.DrawFn) -> dict[str, Any]:
    """A random layer over a random topology: rows without sources, tails of vectors, residuals."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, inputs, c_in = draw(st.integers(1, 70)), draw(st.integers(1, 70)), draw(st.integers(1, 40))
    normed = draw(st.booleans())
    c_out = 2 * GROUPS * draw(st.integers(1, 8)) if normed else draw(st.integers(1, 120))
    types, edges = draw(st.integers(1, 2)), []
    for _ in range(types):
        count = draw(st.integers(0, 4 * rows))
        edges.append((random.integers(0, inputs, count), random.integers(0, rows, count)))

    def numbers(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    norm = (numbers(c_out), numbers(c_out)) if normed else (None, None)
    bias = numbers(types, c_out) if draw(st.booleans()) else None
    return {
        "x": numbers(inputs, c_in),
        "neighbours": Neighbours.from_edges(rows, inputs, edges),
        "layer": Layer(numbers(types * c_in, c_out), types, bias, *norm),
        "residual": numbers(inputs, c_out) if draw(st.booleans()) else None,
        "residual_rows": random.integers(0, inputs, rows).astype(np.int32),
        "silu": draw(st.booleans()),
    }


@given(graph_convs())
@settings(max_examples=60, deadline=None)
def test_a_layer_is_that_of_the_twin(case: dict[str, Any]) -> None:
    x, layer, residual = case["x"], case["layer"], case["residual"]
    rows = None if residual is None else case["residual_rows"]
    exact = reference.graph_conv(
        x.astype(np.float64), case["neighbours"], layer, residual, rows, case["silu"]
    )
    twin = reference.graph_conv(x, case["neighbours"], layer, residual, rows, case["silu"])
    allowed = 8 * np.abs(twin - exact).max() + 1e-5 * max(1.0, np.abs(exact).max())
    made = {}
    for name in SETS:
        # The residual is what a first step, a linear layer without a bias, leaves in another slot.
        wide = np.hstack([x, np.zeros((len(x), 0), np.float32) if residual is None else residual])
        convs = native().GraphConvs(rows=len(wide), columns=wide.shape[1], slots=4, instructions=name)
        convs.add(source=0, target=1, silu=False, **_taken(len(wide), wide.shape[1], 0, x.shape[1]))
        if residual is not None:
            convs.add(
                source=0, target=2, silu=False, **_taken(len(wide), wide.shape[1], x.shape[1], wide.shape[1])
            )
        convs.add(
            source=1,
            target=3,
            silu=case["silu"],
            residual=None if residual is None else 2,
            residual_rows=rows,
            **native_decoder.layer_arguments(case["neighbours"], layer),
        )
        made[name] = convs.run(wide, 2)
        assert np.abs(made[name] - exact).max() <= allowed
    assert all(np.array_equal(made[name], made[FUSED[0]]) for name in FUSED)


def _taken(rows: int, columns: int, first: int, last: int) -> dict[str, Any]:
    """A layer that takes some of the columns."""
    layer = Layer(np.eye(columns, dtype=np.float32)[:, first:last].copy())
    return native_decoder.layer_arguments(Neighbours.identity(rows), layer)


@pytest.mark.parametrize("name", SETS)
def test_large_numbers_and_nan(name: str) -> None:
    """SiLU neither overflows nor hides what is not a number."""
    x = np.float32([[-1e30, -200, -88, -1e-30, 0, 1, 88, 200, 1e30, np.nan]])
    convs = native().GraphConvs(rows=1, columns=10, slots=2, instructions=name)
    convs.add(source=0, target=1, silu=True, **_taken(1, 10, 0, 10))
    convs.run(np.zeros((1, 10), np.float32), 1)
    for column, value in enumerate(x[0]):  # a NaN would spread over its row
        row = np.zeros((1, 10), np.float32)
        row[0, column] = value
        got, want = convs.run(row, 1)[0, column], float(value) / (1 + np.exp(-float(np.maximum(value, -700))))
        assert np.isclose(got, want, rtol=1e-6, atol=1e-8, equal_nan=True)


def test_damaged_arguments_are_refused() -> None:
    """They are our own mistakes, but nothing may be read beyond the end of an array."""
    convs = native().GraphConvs(rows=3, columns=2, slots=3)
    good = {"rows": 3, "matrix": np.ones((2, 4), np.float32), "silu": False, "source": 0, "target": 1}
    edges = [(np.int32([0, 1, 2, 3]), np.int32([0, 1, 2]))]
    for bad in (
        {"types": [(np.int32([0, 1, 2, 4]), edges[0][1])]},
        {"types": [(edges[0][0], np.int32([0, 1, 3]))]},
        {"types": [(None, np.int32([0, -1, 2]))]},
        {"types": [(None, None)], "rows": 4},
        {"types": edges, "matrix": np.ones((3, 4), np.float32)},
        {"types": edges, "target": 0},
        {"types": edges, "target": 3},
        {"types": edges, "residual": 2},
        {"types": edges, "norm": (np.ones(4, np.float32), np.ones(4, np.float32))},
    ):
        with pytest.raises(ValueError):
            convs.add(**good | bad)
    convs.add(**good, types=edges)
    with pytest.raises(ValueError):
        convs.run(np.ones((2, 2), np.float32), 1)
    with pytest.raises(ValueError):
        native().GraphConvs(rows=3, columns=2, slots=3, instructions="mmx")


def test_without_the_compiled_code_the_engine_decodes(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    monkeypatch.setattr(native_decoder, "native", lambda: None)
    assert instruction_sets() == []
    latent = np.zeros((1, bundle.manifest.latent.tokens, bundle.manifest.latent.channels), np.float32)
    made = {}
    for decoder in ("auto", "engine"):
        with HeadPipeline.open(bundle, "onnxruntime", 1, decoder=decoder) as pipe:  # type: ignore[arg-type]
            made[decoder] = pipe._networks.decode(latent)
    assert np.array_equal(made["auto"], made["engine"])
    with pytest.raises(BackendError, match="compiled decoder is not there"):
        HeadPipeline.open(bundle, "onnxruntime", 1, decoder="native")
