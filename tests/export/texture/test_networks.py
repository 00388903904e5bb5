"""Our networks of Qwen-Image against diffusers', and merged adapters against PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import needs

diffusers, peft = needs.module("diffusers"), needs.module("peft")
from export.texture.base_model import open_base, transformer_shapes
from export.texture.lora import NO_LORA, open_lora
from models.qwen_image import ABSENT, Entry, Exit, Modulation, QwenImageConfig, Section, TextIn
from models.qwen_vae import QwenVaeConfig, QwenVaeDecoder, QwenVaeEncoder, flat_weights
from tests.export.texture.released import BASE, LORA, apart

# Sides in tokens of the map and of the portrait; odd ones are not centred alike on both sides of 0.
SIDES = [((4, 4), (4, 4)), ((4, 4), (2, 2)), ((3, 3), (5, 5))]
_WIDE = 1e-6  # of FP32, after three blocks


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def theirs() -> Any:
    return diffusers.QwenImageTransformer2DModel.from_pretrained(BASE / "transformer").float().eval()


def loaded(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    module.load_state_dict({key: state[key] for key in module.state_dict()})
    return module.eval()


@pytest.mark.parametrize("zero_cond_t", [True, False])
@pytest.mark.parametrize("sides", SIDES)
@torch.no_grad()
def test_sections_are_the_transformer(theirs: Any, sides: Any, zero_cond_t: bool) -> None:
    config = QwenImageConfig(**{**vars(open_base(BASE).transformer), "zero_cond_t": zero_cond_t})
    theirs.zero_cond_t = zero_cond_t
    for block in theirs.transformer_blocks:
        block.zero_cond_t = zero_cond_t
    state, (made, seen) = theirs.state_dict(), (high * wide for high, wide in sides)
    latent, reference = torch.randn(1, made, 16), torch.randn(1, seen, 16)
    text, time = torch.randn(1, 5, 16), torch.tensor([0.7])
    wanted = theirs(
        hidden_states=torch.cat([latent, reference], 1),
        timestep=time,
        encoder_hidden_states=text,
        encoder_hidden_states_mask=None,
        img_shapes=[[(1, *side) for side in sides]],
        return_dict=False,
    )[0][:, :made]
    padded = torch.cat([text, torch.full((1, 2, 16), 9.0)], 1)  # what the mask hides may be anything
    mask = torch.tensor([[0.0] * 5 + [ABSENT] * 2])
    image = loaded(Entry(config), state)(latent, reference)
    stream = loaded(TextIn(config), state)(padded)
    for span in (range(2), range(2, 3)):
        modulation = loaded(Modulation(config, span), state)(time)
        image, stream = loaded(Section(config, span, sides, 7), state)(image, stream, mask, modulation)
    assert apart(loaded(Exit(config, made), state)(image, time), wanted) < _WIDE
    unhidden = loaded(Section(config, range(1), sides, 7), state)
    modulation = loaded(Modulation(config, range(1)), state)(time)
    first = [
        unhidden(image, loaded(TextIn(config), state)(padded), m, modulation)[0] for m in (mask, 0 * mask)
    ]
    assert apart(first[0], first[1]) > 1e-3


def test_every_weight_of_the_transformer_is_used(theirs: Any) -> None:
    wanted = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert transformer_shapes(open_base(BASE).transformer) == wanted


@torch.no_grad()
def test_the_vae_of_one_picture() -> None:
    theirs = diffusers.AutoencoderKLQwenImage.from_pretrained(BASE / "vae").float().eval()
    config: QwenVaeConfig = open_base(BASE).vae
    flat = flat_weights(theirs.state_dict())
    encoder = loaded(QwenVaeEncoder(config), flat)
    decoder = loaded(QwenVaeDecoder(config, 48), flat)
    assert set(flat) == {*encoder.state_dict(), *decoder.state_dict()}
    picture = torch.rand(1, 3, 48, 48) * 2 - 1
    mean, deviation = (torch.tensor(v).view(1, -1, 1, 1) for v in (config.latents_mean, config.latents_std))
    latent = (theirs.encode(picture[:, :, None]).latent_dist.mode()[:, :, 0] - mean) / deviation
    packed = diffusers.QwenImageEditPlusPipeline._pack_latents(latent, 1, 4, 12, 12)
    assert apart(encoder(picture), packed) < _WIDE
    wanted = theirs.decode((latent * deviation + mean)[:, :, None]).sample[:, :, 0]
    assert apart(decoder(packed), wanted) < _WIDE
    assert wanted.abs().max() <= 1 and float((wanted.abs() < 1).float().mean()) > 0.5


def test_a_merged_adapter_is_pefts(theirs: Any) -> None:
    base = open_base(BASE)
    lora = open_lora(LORA, transformer_shapes(base.transformer))
    copy = diffusers.QwenImageTransformer2DModel.from_pretrained(BASE / "transformer").float()
    wanted = peft.PeftModel.from_pretrained(copy, str(LORA)).float().merge_and_unload().state_dict()
    state = base.transformer_weights.read(transformer_shapes(base.transformer))
    found = lora.merged(state, rounded=False)
    assert max(apart(found[key], wanted[key]) for key in wanted) < 1e-6
    changed = {key for key in state if not torch.equal(state[key], found[key])}
    assert changed == {f"{module}.weight" for module in lora.pairs} and len(changed) == 18
    # One module has a rank and an alpha of its own.
    assert {lora.scales[module] for module in lora.pairs} == {2.0, 1.5}
    rounded = lora.merged(state, rounded=True)
    assert all(torch.equal(value, value.bfloat16().float()) for value in rounded.values())
    assert NO_LORA.merged(state, rounded=True).keys() == state.keys()


def test_the_root_of_the_rank(tmp_path: Path) -> None:
    text = (LORA / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(text.replace('"use_rslora": false', '"use_rslora": true'))
    (tmp_path / "adapter_model.safetensors").write_bytes((LORA / "adapter_model.safetensors").read_bytes())
    lora = open_lora(tmp_path, transformer_shapes(open_base(BASE).transformer))
    copy = diffusers.QwenImageTransformer2DModel.from_pretrained(BASE / "transformer").float()
    wrapped = peft.PeftModel.from_pretrained(copy, str(tmp_path))
    scales = {
        name.removeprefix("base_model.model."): module.scaling["default"]
        for name, module in wrapped.named_modules()
        if hasattr(module, "scaling")
    }
    assert lora.scales == pytest.approx(scales)
