r"""Write the trained adapter as a GGUF LoRA for llama.cpp.

    python -m models.training.adapter_export --parts DIR --base BASE.gguf --out ADAPTER.gguf \\
        --type q8_0 --metrics DIR/metrics.json

Besides llama.cpp's own keys the file carries what docqa checks and uses: `docqa.base_sha256` (the
base it was trained on), `docqa.prompt_version`, `docqa.refusal_token` and
`docqa.refusal_threshold` (refuse where the first token's probability of that token is at least so
high). llama.cpp ignores keys that it does not know.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from docqa import prompts
from models.gguf import read_header
from models.training.adapter_data import Tokenizer
from models.training.adapter_parts import load_parts

Arrays = Mapping[str, npt.NDArray[np.float16]]


def near_full(folder: Path, rank: int, kv_rank: int) -> Arrays:
    """Return the adapter nearest to the full update in `folder`, and print what share it keeps."""
    return near(load_parts(folder, "full"), rank, kv_rank)


def near_mean(runs: Sequence[Path], rank: int, kv_rank: int) -> Arrays:
    """Return the adapter nearest to the mean update of several adapters: folders, exported files.

    Runs that saw other data in another order err differently: their mean is better than each
    (Wortsman et al. 2022, "Model soups").
    """
    adapters = [load_parts(run) if run.is_dir() else exported(run) for run in runs]
    projections = [name[:-2] for name in adapters[0] if name.endswith(".a")]
    updates = {
        name: np.mean(
            [_wide(held[f"{name}.b"]) @ _wide(held[f"{name}.a"]) for held in adapters],
            axis=0,
        )
        for name in projections
    }
    return near(updates, rank, kv_rank)


def near(updates: Mapping[str, npt.NDArray[np.floating]], rank: int, kv_rank: int) -> Arrays:
    """Return the adapter of these ranks nearest to the updates, and print what share it keeps."""
    import torch

    from models.training.adapter_full import nearest
    from models.training.adapter_llama import by_projection

    tensors, kept = nearest(
        {name: torch.from_numpy(update) for name, update in updates.items()},
        by_projection(rank, kv_rank),
    )
    print("kept of the update: " + ", ".join(f"{n} {share:.2f}" for n, share in kept.items()))
    return {name: tensor.half().numpy() for name, tensor in tensors.items()}


def _wide(array: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return array.astype(np.float32)


def export(
    arrays: Arrays, base: Path, out: Path, kind: str = "q8_0", refusal_threshold: float = 0.5
) -> int:
    """Write the adapter; return its size in bytes.

    llama.cpp multiplies by alpha / rank, the rank being that of each tensor; B is scaled by rank /
    alpha, a power of two, so that every projection is updated by exactly `B A`.
    """
    import gguf

    types = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "f16": gguf.GGMLQuantizationType.F16}
    chosen = types[kind]
    alpha = float(max(a.shape[1] for name, a in arrays.items() if name.endswith(".a")))
    writer = gguf.GGUFWriter(str(out), "llama")
    writer.add_type("adapter")
    writer.add_name("SmolLM2-135M-Instruct cite")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_string("general.license", "agpl-3.0-or-later")
    writer.add_string("docqa.base_sha256", hashlib.sha256(base.read_bytes()).hexdigest())
    writer.add_uint32("docqa.prompt_version", prompts.PROMPT_VERSION)
    writer.add_uint32("docqa.refusal_token", Tokenizer(base)(prompts.NOT_FOUND)[0])
    writer.add_float32("docqa.refusal_threshold", refusal_threshold)
    n_layers = next(iter(arrays.values())).shape[0]
    for layer in range(n_layers):
        for name, stacked in arrays.items():
            projection, side = name.rsplit(".", 1)
            matrix = stacked[layer].astype(np.float32)
            if side == "b":
                matrix = matrix * np.float32(matrix.shape[1] / alpha)
            packed = gguf.quants.quantize(matrix, chosen)
            tensor = f"blk.{layer}.{projection}.weight.lora_{side}"
            writer.add_tensor(tensor, packed, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out.stat().st_size


def exported(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return what `export` was given: `attn_q.a` (L, r, in), `attn_q.b` (L, out, r), and so on."""
    from models.training.adapter_llama import dequantise

    header, raw = read_header(file), file.read_bytes()
    alpha = float(header.metadata["adapter.lora.alpha"])  # type: ignore[arg-type]
    layers: dict[str, dict[int, npt.NDArray[np.float32]]] = {}
    for tensor in header.tensors:
        _, layer, projection, _, side = tensor.name.replace(".lora_", ".").split(".")
        matrix = dequantise(raw[tensor.offset : tensor.offset + tensor.n_bytes], tensor)
        if side == "b":
            matrix = matrix * np.float32(alpha / matrix.shape[1])
        layers.setdefault(f"{projection}.{side}", {})[int(layer)] = matrix
    return {name: np.stack([held[i] for i in sorted(held)]) for name, held in layers.items()}


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--parts",
        type=Path,
        nargs="+",
        help="folder of adapter-*.safetensors; several, among them exported adapters: their mean",
    )
    given.add_argument("--from-full", type=Path, help="folder of full-*.safetensors")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=64, help="of --from-full, and of a mean")
    parser.add_argument("--kv-rank", type=int, default=32, help="of its K and V")
    parser.add_argument("--type", choices=("q8_0", "f16"), default="q8_0")
    parser.add_argument("--metrics", type=Path, help="metrics.json, for the refusal threshold")
    parser.add_argument("--threshold", type=float)
    args = parser.parse_args()
    threshold = args.threshold
    if threshold is None:
        report = json.loads(args.metrics.read_text(encoding="utf-8")) if args.metrics else {}
        threshold = report.get("at_90", {}).get("threshold", 0.5)
    if args.from_full:
        arrays = near_full(args.from_full, args.rank, args.kv_rank)
    elif len(args.parts) > 1:
        arrays = near_mean(args.parts, args.rank, args.kv_rank)
    else:
        arrays = load_parts(args.parts[0])
    size = export(arrays, args.base, args.out, args.type, threshold)
    print(f"{args.out}: {size} bytes, {args.type}, refusal threshold {threshold}")


if __name__ == "__main__":
    main()
