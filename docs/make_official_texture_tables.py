"""Fill the tables of docs/texture_official.md: `python docs/make_official_texture_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "texture_official.md"
RESULT = "official_texture_block"
WIDTH = 3072  # of both streams, in the published configuration
MODULATION = 12 * (WIDTH**2 + WIDTH)  # weights of a block's two layers, D -> 6 D
_GB = 1e9


def _block() -> str:
    found = read(RESULT)
    whole, plan, export = found["of_all_blocks"], found["plan"], found["export"]
    device = plan["device_bytes"]
    rows = [
        [
            "weights without modulation",
            f"{found['parameters'] / 1e6:,.1f} M",
            f"{whole['parameters'] / 1e9:.2f} G",
        ],
        ["its modulation", f"{MODULATION / 1e6:,.1f} M", f"{found['blocks'] * MODULATION / 1e9:.2f} G"],
        [
            "products of one evaluation",
            f"{found['flops'] / 1e12:.2f} TFLOP",
            f"{whole['flops'] / 1e12:,.0f} TFLOP",
        ],
        [
            "export: processor time",
            f"{export['processor_seconds']:.0f} s",
            f"about {found['blocks'] * export['processor_seconds'] / 60:.0f} min",
        ],
        [
            "plan: processor time",
            f"{plan['processor_seconds']:.0f} s",
            f"about {found['blocks'] * plan['processor_seconds'] / 60:.0f} min",
        ],
        [
            "plan: size",
            f"{plan['plan_bytes'] / _GB:.2f} GB",
            f"{found['blocks'] * plan['plan_bytes'] / _GB:.1f} GB",
        ],
        ["plan: activations", f"{device['activations'] / _GB:.2f} GB", "the same: blocks take turns"],
        [
            "largest memory of the process",
            f"{max(export['peak_bytes'], plan['peak_bytes']) / _GB:.1f} GB",
            "three times that for sections of three blocks",
        ],
    ]
    told = table(
        ["BF16, 1024 x 1024", "one block, measured", f"{found['blocks']} blocks, extrapolated"], rows
    )
    layers = ", ".join(f"{count} {name}" for name, count in plan["layers"].items())
    small = found["small"]
    return (
        f"{told}\n\nThe plan has {layers} layers as parsed, and {plan['fp32_products']} products in FP32. At"
        f" {small['side'] * 16} x {small['side'] * 16} pixels the block in onnxruntime is"
        f" {small['relative_rms']:.1e} from PyTorch. The machine was busy: its load was"
        f" {found['load'][0]:.0f} to {found['load'][1]:.0f} on {found['machine']['cores']} cores."
    )


def _memory() -> str:
    found = read(RESULT)
    blocks, section = found["blocks"], found["parameters"]
    activations = found["plan"]["device_bytes"]["activations"]
    rows = []
    for name, size in (("BF16", 2), ("8 bits, not built here", 1)):
        whole, bare = blocks * (section + MODULATION) * size, blocks * section * size
        rows.append([name, f"{whole / _GB:.1f} GB", f"{bare / _GB:.1f} GB", f"{bare / 25e9:.1f} s"])
    told = table(["weights", "with modulation", "without", "read once over PCIe at 25 GB/s"], rows)
    table_bytes = blocks * 3 * 6 * WIDTH * 4
    tokens = found["tokens"]
    share = _products(section, tokens["map"] + tokens["reference"] // 4, tokens["text"]) / _products(
        section, tokens["map"] + tokens["reference"], tokens["text"]
    )
    return (
        f"{told}\n\nActivations come on top: {activations / _GB:.2f} GB in the plan above. The modulations"
        f" of 50 steps take {50 * table_bytes / _GB:.2f} GB on the host, and an evaluation sends"
        f" {table_bytes / 1e6:.0f} MB of them. With a reference of half the side an evaluation takes"
        f" {share:.2f} of the products."
    )


def _products(weights: int, image: int, text: int) -> float:
    """Return the operations of a block: half of its weights meet each stream, then all tokens meet all."""
    return weights * (image + text) + 4 * (image + text) ** 2 * WIDTH


TABLES: Tables = {"official_block": _block, "official_memory": _memory}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
