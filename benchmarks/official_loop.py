"""The release's way of making a head in PyTorch: the plain DiT twice a step, and the edge-by-edge decoder.

Every step embeds the time, modulates, and projects the image's keys and values again; the unconditional half
is a separate forward pass over zeros. The modes are what PyTorch offers without changes to the code.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.dit import TIME_SCALE

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]  # x, t, dt, tokens, none -> x


@dataclass(frozen=True)
class Mode:
    """One way to run PyTorch. The sampler's state and the decoder stay FP32, apart from TF32."""

    meaning: str
    dtype: torch.dtype = torch.float32  # of products in the image encoder and DiT; norms and sums stay FP32
    tf32: bool = False
    compiled: bool = False
    graph: bool = False
    cuda_only: bool = False


MODES: dict[str, Mode] = {
    "eager_fp32": Mode("as released"),
    "eager_tf32": Mode("FP32 products in TF32", tf32=True, cuda_only=True),
    "eager_bf16": Mode("image encoder and DiT in bf16", torch.bfloat16, tf32=True),
    "compile_fp32": Mode("torch.compile of image encoder and DiT", compiled=True),
    "compile_bf16": Mode("both", torch.bfloat16, tf32=True, compiled=True),
    "graph_bf16": Mode("bf16, a step replayed as a CUDA graph", torch.bfloat16, True, graph=True,
                       cuda_only=True),
    "compile_graph_bf16": Mode("bf16, compiled, a step replayed as a CUDA graph", torch.bfloat16, True, True,
                               graph=True, cuda_only=True),
}  # fmt: skip


@dataclass
class Official:
    """The released way of making a head, in one mode, on one device."""

    mode: Mode
    encoder: nn.Module
    dit: nn.Module
    decoder: nn.Module
    device: torch.device
    guidance: float
    times: Sequence[float]
    ms: dict[str, float] = field(default_factory=dict)  # of the last head, by stage
    _step: Any = None

    @torch.inference_mode()
    def head(self, pixels: Tensor, start: Tensor) -> Tensor:
        """Return FP32 vertices [1,V,6] from pixels [1,3,H,W] and start [1,N,D], all on the host."""
        self._set_tf32()
        clock = _Clock(self.device, self.ms)
        with self._narrow():
            tokens = self.encoder(pixels.to(self.device)).float()
        none = torch.zeros_like(tokens)
        clock.lap("image_encoder")
        x = start.to(self.device)
        if self._step is None:
            self._step = self._make_step(x, tokens, none)
        for t, t_next in itertools.pairwise(self.times):
            scaled, dt = (torch.tensor([v], device=self.device) for v in (TIME_SCALE * t, t - t_next))
            x = self._step(x, scaled, dt, tokens, none)
        clock.lap("sampling")
        vertices = self.decoder(x).float().cpu()
        clock.lap("vae_decoder")
        self.ms["head"] = sum(self.ms[name] for name in ("image_encoder", "sampling", "vae_decoder"))
        return vertices

    def _set_tf32(self) -> None:
        torch.backends.cuda.matmul.allow_tf32 = self.mode.tf32
        torch.backends.cudnn.allow_tf32 = self.mode.tf32

    def _narrow(self) -> torch.autocast:
        """Return a context that casts operands of products to the mode's dtype; weights have it already."""
        dtype = self.mode.dtype
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=dtype != torch.float32, cache_enabled=False
        )

    def _euler(self, x: Tensor, t: Tensor, dt: Tensor, tokens: Tensor, none: Tensor) -> Tensor:
        with self._narrow():
            with_image, without = (self.dit(x, t, c).float() for c in (tokens, none))
        return x - dt * ((1 + self.guidance) * with_image - self.guidance * without)

    def _make_step(self, x: Tensor, tokens: Tensor, none: Tensor) -> Step:
        if not self.mode.graph:
            return self._euler
        held = [
            x.clone(),
            torch.ones(1, device=self.device),
            torch.zeros(1, device=self.device),
            tokens.clone(),
            none.clone(),
        ]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._euler(*held)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._euler(*held)

        def replay(*inputs: Tensor) -> Tensor:
            for place, value in zip(held, inputs, strict=True):
                place.copy_(value)
            graph.replay()
            return result.clone()

        return replay


class _Clock:
    """A clock that notes the milliseconds between laps, and waits for the device at each."""

    def __init__(self, device: torch.device, ms: dict[str, float]) -> None:
        self._device, self._ms = device, ms
        self._since = self._now()

    def lap(self, name: str) -> None:
        now = self._now()
        self._ms[name], self._since = 1e3 * (now - self._since), now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def in_mode(module: nn.Module, mode: Mode, device: torch.device) -> nn.Module:
    """Return a copy of an image encoder or DiT for a mode, with the weights of products in its dtype."""
    made = copy.deepcopy(module).to(device).eval()
    for layer in made.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.to(mode.dtype)
    compiled: Any = torch.compile(made) if mode.compiled else made
    return cast(nn.Module, compiled)
