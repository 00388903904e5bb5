"""The released texture stage in PyTorch: diffusers' networks and PEFT's adapter, in the release's own loop.

What its loop does unlike the stock pipeline:

- the negative branch sees a black picture, in the VAE and in the text encoder;
- the text stream has no tokens of the picture (`text_encoder.py`);
- the guided velocity is scaled to the conditional one's length in every token;
- the shift of the times follows from the map's tokens alone;
- the encoder sees pictures in -1..1 as if they were in 0..255;
- pixels are rounded down.

The VAE computes in FP32, all else in one type, BF16 in the release. Written anew from the facts of the
release's script; its seeds do not carry over, since it draws its noise on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from export.texture.base_model import FETCH, BaseModel, open_base, transformer_shapes
from export.texture.libraries import library
from export.texture.lora import check_lora
from topos_rt.errors import BackendError, InputError, ToposError
from topos_rt.flow.sampling import noise
from topos_rt.texture.official.painter import map_pixels, portrait_pixels

PATCH = 2


@dataclass(frozen=True, eq=False)
class ReleasedNetworks:
    """What diffusers and PEFT have loaded."""

    transformer: Any
    vae: Any
    scheduler: Any
    device: str
    dtype: torch.dtype

    @classmethod
    def open(cls, path: Path, lora: Path | None, device: str, dtype: torch.dtype) -> ReleasedNetworks:
        """Load the user's copies. Raises InputError, MissingExtraError; BackendError out of memory."""
        diffusers, base = library("diffusers"), open_base(path)
        if lora is not None:
            check_lora(lora, transformer_shapes(base.transformer))
        check_device(base, device, dtype)
        loading: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        with one_line_errors():
            transformer = diffusers.QwenImageTransformer2DModel.from_pretrained(
                path / "transformer", torch_dtype=dtype, **loading
            )
            if lora is not None:
                transformer = library("peft").PeftModel.from_pretrained(transformer, str(lora)).to(dtype)
            vae = diffusers.AutoencoderKLQwenImage.from_pretrained(
                path / "vae", torch_dtype=torch.float32, **loading
            )
            scheduler = diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(path / "scheduler")
            return cls(transformer.to(device).eval(), vae.to(device).eval(), scheduler, device, dtype)

    @property
    def shrinks(self) -> int:
        """How many pixels along a side are one of a latent."""
        return int(2 ** len(self.vae.temperal_downsample))

    def encode(self, picture: Tensor) -> Tensor:
        """Return the tokens [1,R,C] of a picture [1,3,H,W] in -1..1."""
        latent = self.vae.encode(picture.to(self.device)[:, :, None]).latent_dist.mode()[:, :, 0]
        mean, deviation = self._normalisation()
        packed = torch.nn.functional.pixel_unshuffle((latent - mean) / deviation, PATCH)
        return packed.flatten(2).transpose(1, 2).to(self.dtype)

    def decode(self, latent: Tensor, side: int) -> Tensor:
        """Return the picture [1,3,side,side] in -1..1 of tokens [1,N,C]."""
        tokens = side // self.shrinks // PATCH
        packed = latent.float().transpose(1, 2).unflatten(2, (tokens, tokens))
        mean, deviation = self._normalisation()
        unpacked = torch.nn.functional.pixel_shuffle(packed, PATCH) * deviation + mean
        picture: Tensor = self.vae.decode(unpacked[:, :, None]).sample[:, :, 0]
        return picture

    def _normalisation(self) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        values = (config.latents_mean, config.latents_std)
        mean, deviation = (torch.tensor(part, device=self.device).view(1, -1, 1, 1) for part in values)
        return mean, deviation


@dataclass(frozen=True)
class LoopSettings:
    """How a map is made; the defaults are the release's."""

    steps: int = 50
    guidance: float = 1.2
    side: int = 1024
    seed: int = 0


@torch.inference_mode()
def paint(
    networks: ReleasedNetworks,
    prompts: tuple[Tensor, Tensor],
    picture: Image.Image,
    settings: LoopSettings,
    told: Callable[[int, int], object] = lambda done, count: None,
) -> np.ndarray:
    """Return the colour map [S,S,3] uint8 of a portrait.

    prompts: text streams [1,T,J] of both branches. told: receives the steps done and their number.

    Raises BackendError where memory runs out, or the VAE gives NaN.
    """
    n = networks
    pixels = torch.from_numpy(portrait_pixels(picture, settings.side))
    tokens = settings.side // n.shrinks // PATCH
    with one_line_errors():
        seen, black = n.encode(pixels), n.encode(-torch.ones_like(pixels))
        start = noise(settings.seed, (1, tokens**2, seen.shape[2]))
        latent = torch.from_numpy(start).to(n.device, n.dtype)
        shapes = [[(1, tokens, tokens)] * 2]
        n.scheduler.set_timesteps(
            sigmas=np.linspace(1.0, 1.0 / settings.steps, settings.steps),
            device=n.device,
            mu=shift_exponent(n.scheduler.config, tokens**2),
        )
        n.scheduler.set_begin_index(0)
        for done, time in enumerate(n.scheduler.timesteps, 1):
            at = time.expand(1).to(n.dtype) / 1000

            def velocity(text: Tensor, reference: Tensor, at: Tensor = at, latent: Tensor = latent) -> Tensor:
                made: Tensor = n.transformer(
                    hidden_states=torch.cat([latent, reference], 1),
                    timestep=at,
                    encoder_hidden_states=text.to(n.device, n.dtype),
                    encoder_hidden_states_mask=None,
                    img_shapes=shapes,
                    return_dict=False,
                )[0]
                return made[:, : tokens**2]

            conditional = velocity(prompts[0], seen)
            guided = conditional
            if settings.guidance > 1:
                unconditional = velocity(prompts[1], black)
                mixed = unconditional + settings.guidance * (conditional - unconditional)
                guided = as_long_as(mixed, conditional)
            latent = n.scheduler.step(guided, time, latent, return_dict=False)[0]
            told(done, settings.steps)
        return map_pixels(n.decode(latent, settings.side).float().cpu().numpy())


def as_long_as(mixed: Tensor, conditional: Tensor) -> Tensor:
    """Return the first velocity, scaled to the second one's length in every token."""
    wanted, length = (torch.norm(x, dim=-1, keepdim=True) for x in (conditional, mixed))
    return mixed * (wanted / (length + 1e-12))


def shift_exponent(config: Any, tokens: int) -> float:
    """Return mu for a map of so many tokens; the portrait's do not count."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return float(base + (most - base) / (high - low) * (tokens - low))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn PyTorch's errors for memory that runs out, and the loaders' for other files, into one line."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(error) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, ToposError):
            raise
        if "not enough memory" in str(error):
            raise _out_of_memory(error) from error
        raise BackendError("the released texture stage in PyTorch", got=error, fix=FETCH) from error


def _out_of_memory(error: BaseException) -> BackendError:
    return BackendError(
        "the released texture stage in PyTorch",
        got=f"no more memory ({error})",
        expected="about 60 GB on the device for the transformer, the VAE and what they compute",
        fix="make a texture bundle, which needs less: docs/texture_official.md",
    )


def check_device(base: BaseModel, device: str, dtype: torch.dtype) -> None:
    """Raise InputError where there is no CUDA, or less free memory than the weights alone take."""
    if not device.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        raise InputError(
            "device cuda",
            got="a PyTorch without CUDA, or no GPU",
            fix="install PyTorch for CUDA; --device cpu runs on the CPU, where a map takes hours",
        )
    sizes = transformer_shapes(base.transformer).values()
    needed = sum(int(np.prod(shape)) for shape in sizes) * torch.empty(0, dtype=dtype).element_size()
    free = torch.cuda.mem_get_info(device)[0]
    if free < needed:
        raise InputError(
            "memory of the GPU",
            got=f"{free / 1e9:.1f} GB free",
            expected=f"{needed / 1e9:.1f} GB for the transformer's weights alone",
            fix="make a texture bundle, whose sections need not all be loaded: docs/texture_official.md",
        )
