"""What users hand over: base models, adapters, instructions, stored prompts, libraries and devices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.__main__ import main
from export.texture import libraries, release_loop
from export.texture.base_model import open_base, transformer_shapes
from export.texture.embeddings_file import read_embeddings, write_embeddings
from export.texture.graphs import Sizes
from export.texture.lora import check_lora, open_lora
from export.texture.prompts import read_instructions
from export.texture.text_encoder import SAME, Embeddings
from tests.export.texture.released import BASE, LORA, PROMPTS
from tests.texture_bundle import stored_prompts
from topos_rt.errors import InputError, MissingExtraError, OptionError
from topos_rt.support.tensorfile import write_tensors

Change = Callable[[Path], None]
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
FIRST = "transformer_blocks.0.attn.to_q.weight"


def edited(file: str, **changes: Any) -> Change:
    """Return a change of keys of a JSON file; None removes one."""

    def change(folder: Path) -> None:
        tree = json.loads((folder / file).read_text()) | changes
        kept = {key: value for key, value in tree.items() if value is not None}
        (folder / file).write_text(json.dumps(kept))

    return change


def tensors(file: str, edit: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def change(folder: Path) -> None:
        state = load_file(folder / file)
        edit(state)
        save_file(state, folder / file)

    return change


def replaced(file: str, data: bytes | None) -> Change:
    def change(folder: Path) -> None:
        (folder / file).unlink()
        if data is not None:
            (folder / file).write_bytes(data)

    return change


def pickled(file: str, name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / file).rename((folder / file).with_name(name))

    return change


def not_a_number(key: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda state: state[key].view(-1)[:1].fill_(torch.nan)


MODELS: list[tuple[str, Change, str]] = [
    ("no index", replaced("model_index.json", None), r"model_index.json.*No such file"),
    (
        "another pipeline",
        edited("model_index.json", _class_name="FluxPipeline"),
        "key _class_name .* 'FluxPip",
    ),
    ("no JSON", replaced("transformer/config.json", b"{"), "got no JSON"),
    ("a list", replaced("vae/config.json", b"[]"), "got list; expected an object"),
    ("no weights", replaced(WEIGHTS, None), "weights in .*transformer: got no such files"),
    ("a pickle", pickled(WEIGHTS, "model.bin"), "got model.bin, a pickle; nothing of it was run"),
    ("cut off", replaced(WEIGHTS, b"\x08" + b"\0" * 20), "damaged or truncated"),
    ("a missing key", tensors(WEIGHTS, lambda s: s.pop(FIRST)), f"key {FIRST}: got nothing"),
    (
        "another shape",
        tensors(WEIGHTS, lambda s: s.update({FIRST: torch.zeros(3, 3)})),
        rf"key {FIRST}: got shape \[3, 3\]; expected \[32, 32\]",
    ),
    (
        "a key too many",
        tensors(WEIGHTS, lambda s: s.update({"other.weight": torch.zeros(2)})),
        "key other.weight: got 1 keys more",
    ),
    (
        "another option",
        edited("transformer/config.json", guidance_embeds=True),
        "key guidance_embeds: got True",
    ),
    ("no number", edited("transformer/config.json", num_layers="many"), "key num_layers: got 'many'"),
    ("less than one", edited("vae/config.json", base_dim=0), "key base_dim: got 0"),
    ("fewer latents", edited("vae/config.json", latents_mean=None), "configuration .*vae"),
]


@pytest.mark.parametrize(("change", "message"), [m[1:] for m in MODELS], ids=[m[0] for m in MODELS])
def test_other_base_models_are_one_line(change: Change, message: str, tmp_path: Path) -> None:
    base = Path(shutil.copytree(BASE, tmp_path / "base"))
    change(base)
    with pytest.raises(InputError, match=message) as caught:
        open_base(base)
    assert "\n" not in str(caught.value)


def test_nan_in_the_weights_names_the_key(tmp_path: Path) -> None:
    base = Path(shutil.copytree(BASE, tmp_path / "base"))
    tensors(WEIGHTS, not_a_number(FIRST))(base)
    with pytest.raises(InputError, match=f"key {FIRST}: got NaN or infinite"):
        open_base(base).transformer_weights.read([FIRST])


MODULE = "base_model.model.transformer_blocks.0.attn.to_q"
A, B = f"{MODULE}.lora_A.weight", f"{MODULE}.lora_B.weight"
ADAPTER = "adapter_model.safetensors"
ADAPTERS: list[tuple[str, Change, str]] = [
    ("no config", replaced("adapter_config.json", None), "configuration of the LoRA.*No such file"),
    ("another kind", edited("adapter_config.json", peft_type="LOHA"), "key peft_type: got 'LOHA'"),
    (
        "DoRA",
        edited("adapter_config.json", use_dora=True),
        "key use_dora: got True; expected False: a plain LoRA",
    ),
    ("whole modules", edited("adapter_config.json", modules_to_save=["x"]), "key modules_to_save"),
    ("no alpha", edited("adapter_config.json", lora_alpha="x"), "key lora_alpha: got 'x'"),
    ("no weights", replaced(ADAPTER, None), "got no such file; expected a safetensors file"),
    (
        "a pickle",
        pickled(ADAPTER, "adapter_model.bin"),
        "got adapter_model.bin, a pickle; nothing of it was run",
    ),
    ("cut off", replaced(ADAPTER, b"\x08" + b"\0" * 20), "damaged or truncated"),
    (
        "of another base",
        tensors(ADAPTER, lambda s: s.update({A.replace("blocks.0", "blocks.59"): s[A].clone()})),
        "module transformer_blocks.59.attn.to_q: got a module that the base model does not have",
    ),
    (
        "of a wider base",
        tensors(ADAPTER, lambda s: s.update({A: torch.zeros(4, 64)})),
        r"blocks.0.attn.to_q: got A \[4, 64\] and B \[32, 4\]; expected factors of \[32, 32\]",
    ),
    ("half of it", tensors(ADAPTER, lambda s: s.pop(B)), "got lora_A alone"),
    (
        "another key",
        tensors(ADAPTER, lambda s: s.update({"x": torch.zeros(1)})),
        "key x: got a key of no LoRA",
    ),
    ("NaN", tensors(ADAPTER, not_a_number(A)), "got NaN or infinite"),
]


@pytest.mark.parametrize(("change", "message"), [a[1:] for a in ADAPTERS], ids=[a[0] for a in ADAPTERS])
def test_other_adapters_are_one_line(change: Change, message: str, tmp_path: Path) -> None:
    lora = Path(shutil.copytree(LORA, tmp_path / "lora"))
    shapes = transformer_shapes(open_base(BASE).transformer)
    assert len(check_lora(lora, shapes)) == 18
    change(lora)
    with pytest.raises(InputError, match=message):
        open_lora(lora, shapes)


def test_instructions_come_from_a_script_that_is_not_run(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    text = "raise SystemExit\nDEFAULT_PROMPT = ('one ' 'two')\nif x:\n    pass\nNEGATIVE_PROMPT = 'no'\n"
    script.write_text(text)
    found = read_instructions(script)
    assert (found.prompt, found.negative_prompt) == ("one two", "no")
    assert read_instructions(PROMPTS).negative_prompt == "spots and shine"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.py", "DEFAULT_PROMPT = 'x'", "negative_prompt: got None"),
        ("a.py", "DEFAULT_PROMPT = f()\nNEGATIVE_PROMPT = 'x'", "prompt: got None"),
        ("a.py", "DEFAULT_PROMPT = (", "got no Python script"),
        ("a.json", '{"prompt": 3, "negative_prompt": "x"}', "prompt: got 3"),
        ("a.json", '{"prompt": " ", "negative_prompt": "x"}', "prompt: got ' '"),
    ],
)
def test_files_without_instructions(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_instructions(tmp_path / name)
    with pytest.raises(InputError, match="No such file"):
        read_instructions(tmp_path / "b.py")


def test_stored_prompts(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    one, two = np.ones((1, 3, 16), np.float32), np.zeros((1, 2, 16), np.float32)
    write_embeddings(path, Embeddings(one, two, 0.001))
    found = read_embeddings(path, 16)
    assert found.share == 0.001 and np.array_equal(found.positive, one)
    with pytest.raises(
        InputError, match=r"positive: got float32 \[1, 3, 16\]; expected float32 \[1, T, 3584\]"
    ):
        read_embeddings(path, 3584)
    write_embeddings(path, Embeddings(one * np.nan, two, 0.001))
    with pytest.raises(InputError, match="positive: got NaN"):
        read_embeddings(path, 16)
    write_tensors(path, {"positive": one}, {})
    with pytest.raises(InputError, match="without their metadata"):
        read_embeddings(path, 16)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="expected a safetensors file"):
        read_embeddings(path, 16)


def test_libraries_that_are_missing_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "import_module", lambda name: SimpleNamespace(__version__="0.35.2"))
    with pytest.raises(InputError, match=r"diffusers: got 0.35.2; expected 0.37 or newer; fix: pip install"):
        libraries.library("diffusers")

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(libraries, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'topos-rt\[texture\]'"):
        libraries.library("peft")


def test_sizes_that_are_no_whole_tokens() -> None:
    base = open_base(BASE)
    for sizes, message in [
        (Sizes(33, 32, 8, 1), "--size: got 33; expected a multiple of 8"),
        (Sizes(32, 4096, 8, 1), "--reference-size: got 4096"),
        (Sizes(32, 32, 8, 9), "--blocks: got 9; expected 1 to 3"),
    ]:
        with pytest.raises(OptionError, match=message):
            sizes.check(base)


def test_no_cuda_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = stored_prompts(tmp_path / "p.safetensors")
    words = ["paint", "a.jpg", "--official", str(BASE), "--embeddings", str(prompts)]
    photo = Path(__file__).parents[3] / "examples" / "hopper.jpg"
    words[1] = str(photo)
    assert main([*words, "--out", str(tmp_path / "m.png")]) == 2
    assert "device cuda: got a PyTorch without CUDA" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "m.png"), "--prompts", str(PROMPTS)]) == 2
    assert "got both --prompts and --embeddings" in capsys.readouterr().err
    assert not (tmp_path / "m.png").exists()


def test_too_little_memory_is_found_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    base = open_base(BASE)
    needed = 2 * sum(int(np.prod(shape)) for shape in transformer_shapes(base.transformer).values())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed - 1, needed))
    with pytest.raises(InputError, match=r"memory of the GPU: got 0.0 GB free; expected 0.0 GB"):
        release_loop.check_device(base, "cuda", torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed, needed))
    release_loop.check_device(base, "cuda", torch.bfloat16)


def test_another_scheduler_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = Path(shutil.copytree(BASE, tmp_path / "base"))
    edited("scheduler/scheduler_config.json", use_karras_sigmas=True)(base)
    prompts = stored_prompts(tmp_path / "p.safetensors")
    words = [
        "texture",
        "--official",
        str(base),
        "--embeddings",
        str(prompts),
        "--size",
        "32",
        "--blocks",
        "2",
    ]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "key use_karras_sigmas: got True; expected False" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_prompts_that_depend_on_the_portrait_are_not_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from export.texture import embeddings_command

    share = [10 * SAME]
    one = np.ones((1, 3, 16), np.float32)
    monkeypatch.setattr(embeddings_command, "dependence", lambda *a: Embeddings(one, one, share[0]))
    monkeypatch.setattr(embeddings_command.TextEncoder, "open", lambda *a: None)
    photo = str(Path(__file__).parents[3] / "examples" / "hopper.jpg")
    out = tmp_path / "p.safetensors"
    words = [
        "embeddings",
        photo,
        photo,
        "--official",
        str(BASE),
        "--prompts",
        str(PROMPTS),
        "--device",
        "cpu",
    ]
    assert main([*words, "--out", str(out)]) == 2
    assert "the prompts change by 3.9e-02, more than BF16 can tell" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--out", str(out), "--accept", "0.1"]) == 0
    share[0] = SAME / 2
    assert main([*words, "--out", str(out)]) == 0
    assert "the text encoder is not needed again" in capsys.readouterr().out
    assert read_embeddings(out, 16).share == SAME / 2
