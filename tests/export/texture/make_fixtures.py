"""Make tests/data/texture: a tiny base model with a LoRA, and what the release's own script makes of it.

    python tests/export/texture/make_fixtures.py base                     with the release's pins
    python tests/export/texture/make_fixtures.py run TOPOS-Texture.py     with each version to be judged by

The script is a copy of the release's, which is no part of this repository. It is run as it is, but for the
side of its pictures, its prompts and, where diffusers has dropped it, an argument. The copy that made the
files here was a transcript of its loop, without prompts, printing and command line. The image processor needs
torchvision.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

DATA = Path(__file__).parents[2] / "data" / "texture"
EXAMPLES = Path(__file__).parents[3] / "examples"
SIDE, STEPS, GUIDANCE, SEED = 32, 4, 3.0, 5
PROMPTS = {"prompt": "UV map of a head: brows, nose, lips.", "negative_prompt": "spots and shine"}
PORTRAITS = ("astronaut.jpg", "hopper.jpg")
SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
TEXT = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
}  # fmt: skip
VISION = {
    "depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
    "fullatt_block_indexes": [1],
}  # fmt: skip
TRANSFORMER = {
    "patch_size": 2, "in_channels": 16, "out_channels": 4, "num_layers": 3, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 16, "guidance_embeds": False,
    "axes_dims_rope": (8, 4, 4), "zero_cond_t": True,
}  # fmt: skip
VAE = {
    "base_dim": 4, "z_dim": 4, "dim_mult": [1, 2, 3], "num_res_blocks": 1,
    "temperal_downsample": [False, True], "latents_mean": [0.1, -0.2, 0.3, -0.4],
    "latents_std": [1.5, 0.8, 1.2, 0.7],
}  # fmt: skip
SCHEDULER = {
    "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 4,
    "max_image_seq_len": 64, "shift": 1.0, "shift_terminal": 0.02, "time_shift_type": "exponential",
}  # fmt: skip


def main() -> None:
    """Make one or the other."""
    if sys.argv[1] == "base":
        make_base(DATA / "base")
        make_lora(DATA / "base", DATA / "lora")
        (DATA / "prompts.json").write_text(json.dumps(PROMPTS) + "\n")
    else:
        run_release(Path(sys.argv[2]))


def make_base(out: Path) -> None:
    """Write a base model of random weights, all of which BF16 holds exactly."""
    import diffusers
    import transformers

    shutil.rmtree(out, ignore_errors=True)
    (out / "processor").mkdir(parents=True)
    torch.manual_seed(0)
    tokens = _tokenizer(out / "tokenizer")
    ids = {name: tokens.convert_tokens_to_ids(name) for name in SPECIALS}
    vocabulary = len(tokens)
    text = transformers.Qwen2_5_VLConfig(
        text_config={**TEXT, "vocab_size": vocabulary},
        vision_config=VISION,
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        vision_token_id=ids["<|vision_pad|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        tie_word_embeddings=True,
    )
    parts = {
        "text_encoder": transformers.Qwen2_5_VLForConditionalGeneration(text),
        "transformer": diffusers.QwenImageTransformer2DModel(**TRANSFORMER),
        "vae": diffusers.AutoencoderKLQwenImage(**VAE),
    }
    for name, module in parts.items():
        with torch.no_grad():
            for key, value in module.named_parameters():
                if value.dim() > 1 and "norm" not in key and not key.endswith("gamma"):
                    value.copy_(torch.randn_like(value) / value[0].numel() ** 0.5)
                else:
                    value.add_(0.2 * torch.randn_like(value))
        module.to(torch.bfloat16).save_pretrained(out / name)
    diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULER).save_pretrained(out / "scheduler")
    processor = {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "patch_size": 14,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "min_pixels": 3136,
        "max_pixels": 12845056,
    }
    (out / "processor" / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n")
    index = {"_class_name": "QwenImageEditPlusPipeline", "_diffusers_version": diffusers.__version__}
    (out / "model_index.json").write_text(json.dumps(index) + "\n")


def make_lora(base: Path, out: Path) -> None:
    """Write an adapter of the transformer, as PEFT does, with a rank and an alpha of its own for one."""
    import diffusers
    import peft

    shutil.rmtree(out, ignore_errors=True)
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["to_q", "to_k", "add_q_proj", "to_out.0", "img_mlp.net.2", "img_mod.1"],
        rank_pattern={"transformer_blocks.1.attn.to_q": 2},
        alpha_pattern={"transformer_blocks.1.attn.to_q": 3},
    )
    transformer = diffusers.QwenImageTransformer2DModel.from_pretrained(base / "transformer")
    wrapped = peft.get_peft_model(transformer, config)
    with torch.no_grad():
        for key, value in wrapped.named_parameters():
            if "lora_" in key:
                value.copy_((0.3 * torch.randn_like(value)).bfloat16())
    wrapped.to(torch.bfloat16).save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)


def run_release(script: Path) -> None:
    """Run the release's loop on both portraits, and keep what goes in and what comes out."""
    import diffusers
    import peft
    import transformers

    release = _imported(script)
    release.VAE_IMAGE_SIZE = SIDE
    pipeline = _pipeline(diffusers, transformers, DATA / "base")
    wrapped = peft.PeftModel.from_pretrained(pipeline.transformer.float(), str(DATA / "lora")).float()
    if tuple(map(int, diffusers.__version__.split(".")[:2])) >= (0, 39):
        inner = wrapped.base_model.model
        forward = inner.forward
        inner.forward = lambda *a, txt_seq_lens=None, **k: forward(*a, **_plain_mask(k))
    pipeline.transformer = wrapped
    kept: dict[str, torch.Tensor] = {}
    start = torch.randn(1, (SIDE // 8) ** 2, 16, generator=torch.Generator().manual_seed(SEED))
    kept["start"] = start
    encode = release.encode_prompt
    release.encode_prompt = lambda *a, **k: _keep(kept, "text", encode(*a, **k))
    step = pipeline.scheduler.step
    pipeline.scheduler.step = lambda *a, **k: _keep(kept, "latent", step(*a, **k))
    for name in PORTRAITS:
        kept["prefix"] = name.partition(".")[0]  # type: ignore[assignment]
        inputs = release.default_inputs(str(EXAMPLES / name)) | PROMPTS
        inputs |= {"true_cfg_scale": GUIDANCE, "num_inference_steps": STEPS, "latents": start}
        made = release.run_edit_plus(pipeline, inputs)
        pixels = (made[0] * 255).astype(np.uint8)
        kept[f"{kept['prefix']}.map"] = torch.from_numpy(pixels.copy())
        kept[f"{kept['prefix']}.portrait"] = torch.from_numpy(np.array(inputs["image"]))
    kept["times"] = pipeline.scheduler.sigmas.clone()
    del kept["prefix"]
    kept = {key: value.contiguous() for key, value in kept.items()}
    versions = {name.__name__: name.__version__ for name in (diffusers, transformers, peft)}
    save_file(
        kept,
        DATA / f"release_diffusers_{diffusers.__version__}.safetensors",
        {"versions": json.dumps(versions)},
    )
    print(versions, {key: tuple(value.shape) for key, value in kept.items()})


def _keep(kept: dict[str, Any], kind: str, made: Any) -> Any:
    count = sum(key.startswith(f"{kept['prefix']}.{kind}") for key in kept)
    kept[f"{kept['prefix']}.{kind}.{count}"] = made[0].detach().clone()
    return made


def _plain_mask(keywords: dict[str, Any]) -> dict[str, Any]:
    mask = keywords.get("encoder_hidden_states_mask")
    return keywords | {"encoder_hidden_states_mask": None if mask is None else mask.bool()}


def _pipeline(diffusers: Any, transformers: Any, base: Path) -> Any:
    processor = transformers.AutoImageProcessor.from_pretrained(base / "processor", use_fast=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base / "tokenizer")
    video = transformers.Qwen2VLVideoProcessor()
    text = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        base / "text_encoder", torch_dtype=torch.float32
    )
    return diffusers.QwenImageEditPlusPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(base / "scheduler"),
        vae=diffusers.AutoencoderKLQwenImage.from_pretrained(base / "vae", torch_dtype=torch.float32),
        text_encoder=text,
        tokenizer=tokenizer,
        processor=transformers.Qwen2_5_VLProcessor(processor, tokenizer, video),
        transformer=diffusers.QwenImageTransformer2DModel.from_pretrained(base / "transformer"),
    )


def _tokenizer(out: Path) -> Any:
    """Make a tokenizer of single bytes."""
    import transformers

    out.mkdir(parents=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable} | {byte: chr(256 + k) for k, byte in enumerate(others)}
    (out / "vocab.json").write_text(json.dumps({names[byte]: byte for byte in range(256)}))
    (out / "merges.txt").write_text("#version: 0.2\n")
    made = transformers.Qwen2TokenizerFast(
        str(out / "vocab.json"), str(out / "merges.txt"), additional_special_tokens=SPECIALS
    )
    made.save_pretrained(out)
    return made


def _imported(script: Path) -> Any:
    spec = importlib.util.spec_from_file_location("release", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None
    main()
