"""The torch engine on a GPU, beside llama.cpp in the same run: kernels, decode, prefill.

    python -m docqa.bench.torch_gpu MODEL.gguf [--llama-bench PATH] [--depths 0 32768 122880]
    python -m docqa.bench.torch_gpu MODEL.gguf --dry        # small sizes, no timing: runs on a CPU

Prints what the bytes allow (a copy, measured first), then each kernel's share of it for some block
sizes, checked against the reference on random data, then tokens a second of the whole step and of
the prefill, and llama-bench's figures for the same file, KV type and depth. Only torch, Triton,
NumPy and msgspec are needed; one JSON line a figure goes to --out.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KV = {"f16": 16, "q8_0": 8, "q4_0": 4}
COPY_BYTES = 4 << 30
MATVEC_BLOCKS = ((1, 32, 1), (2, 32, 1), (4, 32, 1), (8, 32, 1), (4, 64, 2), (8, 64, 2))
ATTEND_BLOCKS = ((2, 2), (4, 2), (4, 3), (4, 4), (8, 3))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="docqa.bench.torch_gpu", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--depths", type=int, nargs="*", default=[0, 32_768, 122_880])
    parser.add_argument("--kv", nargs="*", choices=tuple(KV), default=list(KV))
    parser.add_argument("--tokens", type=int, default=128, help="decoded for a figure")
    parser.add_argument("--prefill", type=int, default=8_192)
    parser.add_argument("--chunk", type=int, default=2_048)
    parser.add_argument("--llama-bench", type=Path, help="to run beside, on the same file")
    parser.add_argument("--only", nargs="*", choices=("kernels", "decode", "prefill", "llama"))
    parser.add_argument("--dry", action="store_true", help="small sizes, nothing is timed")
    parser.add_argument("--out", type=Path, help="append JSON lines here")
    arguments = parser.parse_args()
    if arguments.dry:
        arguments.depths, arguments.tokens, arguments.prefill = [0, 300], 3, 128
        arguments.chunk = 64
    Bench(arguments).run()


class Bench:
    """One run. `note` prints a figure and keeps it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        import torch

        self.arguments = arguments
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu" and not arguments.dry:
            raise SystemExit("no GPU here: add --dry for a run of small sizes")
        self.bytes_per_s = 0.0

    def wants(self, part: str) -> bool:
        """Whether a part was asked for."""
        return not self.arguments.only or part in self.arguments.only

    def run(self) -> None:
        """Run all parts that were asked for."""
        self.ceiling()
        if self.wants("kernels"):
            self.kernels()
        if self.wants("decode") or self.wants("prefill"):
            self.model()
        if self.wants("llama") and self.arguments.llama_bench:
            self.llama()

    def note(self, what: str, **figures: Any) -> None:
        """Print a figure, and append it to --out."""
        shown = "  ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in figures.items()
        )
        print(f"{what:34s} {shown}", flush=True)
        if self.arguments.out:
            with self.arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"what": what, **figures}) + "\n")

    # -- timing -----------------------------------------------------------------------------------

    def seconds(self, work: Callable[[], object], n: int = 30) -> float:
        """Return the median time of `work` on the device; 0 in a dry run, after one call."""
        import torch

        work()
        if self.device.type == "cpu":
            return 0.0
        times = []
        for _ in range(n):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        return float(statistics.median(times))

    def ceiling(self) -> None:
        """Measure what a copy moves."""
        import torch

        size = 1 << 20 if self.arguments.dry else COPY_BYTES
        source = torch.ones(size // 4, device=self.device)
        target = torch.empty_like(source)
        took = self.seconds(lambda: target.copy_(source), 10)
        self.bytes_per_s = 2 * size / took if took else 0.0
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"
        self.note("copy", device=name, torch=torch.__version__, tb_s=self.bytes_per_s / 1e12)

    def share(self, n_bytes: int, took: float) -> float:
        """Return the share of the copy's rate."""
        return n_bytes / took / self.bytes_per_s if took else 0.0

    # -- kernels ----------------------------------------------------------------------------------

    def kernels(self) -> None:
        """Check and time each kernel alone."""
        shapes = [(8, 512)] if self.arguments.dry else [(4096, 4096), (14336, 4096), (4096, 14336)]
        for kind in ("Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_1"):
            for n, k in shapes if kind == "Q4_K" else shapes[:1]:
                self._matvec(kind, n, k)
        for bits in (16, 8, 4):
            for n in [d for d in self.arguments.depths if d]:
                self._attention(bits, n)

    def _matvec(self, kind: str, n: int, k: int) -> None:
        import torch

        from kernels.matvec import bytes_moved, matvec
        from kernels.packed import pack

        # Several matrices in turn, together larger than the cache on the chip.
        raws = [_random_rows(kind, n, k, seed) for seed in range(2 if self.arguments.dry else 8)]
        matrices = [pack(raw.to(self.device), kind) for raw in raws]
        x, out = torch.randn(k, device=self.device), torch.empty(n, device=self.device)
        matvec(matrices[0], x, out)
        truth = matrices[0].dense().double() @ x.double()
        error = float((out - truth).norm() / truth.norm())
        best: tuple[float, str] = (float("inf"), "")
        for block_n, block_g, warps in MATVEC_BLOCKS[: 1 if self.arguments.dry else None]:

            def work(block_n: int = block_n, block_g: int = block_g, warps: int = warps) -> None:
                for matrix in matrices:
                    matvec(matrix, x, out, block_n=block_n, block_g=block_g, num_warps=warps)

            took = self.seconds(self._recorded(work)) / len(matrices)
            best = min(best, (took, f"{block_n}x{block_g}/{warps}"))
        n_bytes = bytes_moved(matrices[0])
        self.note(
            f"matvec {kind} {n}x{k}",
            error=error,
            us=best[0] * 1e6,
            blocks=best[1],
            share=self.share(n_bytes, best[0]),
        )

    def _attention(self, bits: int, n: int) -> None:
        import torch

        from kernels import reference
        from kernels.decode_attention import Partials, attend
        from models.torch_step import DeviceTables, n_splits_for

        cache = _filled_cache(n, bits, self.device, n_layers=2)
        shape = cache.shape
        tables = DeviceTables(cache, n // 64 + 2)
        tables.refresh(cache)
        q = torch.randn(shape.n_heads, shape.head_dim, device=self.device)
        merged = torch.empty_like(q)
        parts = n_splits_for(self.device, shape.n_kv_heads) + 1
        partials = Partials(
            torch.empty(parts, *q.shape, device=self.device),
            torch.empty(parts, shape.n_heads, device=self.device),
        )
        attend(q, tables.layer(0), partials, merged)
        k, v, _ = cache.layer(0)
        truth = reference.attend(q[:, None], k, v, scale=shape.head_dim**-0.5)[0][:, 0]
        error = float((merged - truth).norm() / truth.norm())
        del k, v
        best: tuple[float, str] = (float("inf"), "")
        for warps, stages in ATTEND_BLOCKS[: 1 if self.arguments.dry else None]:

            def work(warps: int = warps, stages: int = stages) -> None:
                for layer in range(shape.n_layers):
                    kv = tables.layer(layer)
                    attend(q, kv, partials, merged, num_warps=warps, num_stages=stages)

            took = self.seconds(self._recorded(work)) / shape.n_layers
            best = min(best, (took, f"{warps}w{stages}s"))
        n_bytes = cache.n_bytes // shape.n_layers
        self.note(
            f"attention {bits} bits {n}",
            error=error,
            us=best[0] * 1e6,
            blocks=best[1],
            share=self.share(n_bytes, best[0]),
        )

    def _recorded(self, work: Callable[[], object]) -> Callable[[], object]:
        """Return `work` as a graph's replay, so that launches are not what is timed."""
        import torch

        work()
        if self.device.type == "cpu":
            return lambda: None
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        replay: Callable[[], object] = graph.replay
        return replay

    # -- the whole model --------------------------------------------------------------------------

    def model(self) -> None:
        """Time decode and prefill of the model for each KV type and depth."""
        import torch

        from models.kv_cache import KvCache, KvFormat, PagePool
        from models.model_file import read_model
        from models.settings import RopeSettings
        from models.torch_decoder import Decoder
        from models.torch_rope import rope_of
        from models.torch_shape import shape_of
        from models.torch_weights import load

        model = read_model(self.arguments.model)
        shape = shape_of(model)
        began = time.perf_counter()
        weights = load(model, shape, self.device)
        rope = rope_of(model, shape, RopeSettings(), weights.rope_factors)
        longest = max(self.arguments.depths) + self.arguments.prefill + 1024
        decoder = Decoder(shape, weights, rope, longest, self.device)
        n_bytes = sum(x.packed.n_bytes for x in weights.linears.values() if x.packed)
        self.note("loaded", s=time.perf_counter() - began, weights_gb=n_bytes / 1e9)
        for kind in self.arguments.kv:
            for depth in self.arguments.depths:
                per_head = -(-(depth + self.arguments.prefill + 256) // 64) + 1
                n_pages = per_head * shape.n_layers * shape.n_kv_heads
                form = KvFormat(KV[kind], KV[kind])
                cache = KvCache(PagePool(n_pages, shape.head_dim, form, self.device), shape)
                _fill(cache, depth)
                if self.wants("decode"):
                    self._decode(decoder, cache, kind, depth, n_bytes)
                if self.wants("prefill") and depth < 100_000:
                    self._prefill(decoder, cache, kind, depth)
                del cache
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _decode(self, decoder: Any, cache: Any, kind: str, depth: int, n_weights: int) -> None:
        """Greedy, the logits looked at after each token, as the engine does."""
        import torch

        step = None
        if self.device.type == "cuda":
            from models.torch_step import GraphStep

            step = GraphStep(decoder, cache, depth + self.arguments.prefill + 1024)
        token, times = 1, []
        for _ in range(self.arguments.tokens + 8):
            began = time.perf_counter()
            if step is not None:
                token = int(step.run(token, cache).argmax())
            else:
                chunk = decoder.compute(torch.tensor([token]), cache)
                cache.append(chunk.k, chunk.v)
                token = int(decoder.logits(chunk.hidden)[0].argmax())
            times.append(time.perf_counter() - began)
        rate = len(times[8:]) / sum(times[8:])
        bound = self.bytes_per_s / (n_weights + cache.n_bytes)
        self.note(
            f"decode {kind} at {depth}",
            tok_s=rate,
            median_tok_s=1 / statistics.median(times[8:]),
            bound_tok_s=bound,
            kv_gib=cache.n_bytes / 2**30,
        )

    def _prefill(self, decoder: Any, cache: Any, kind: str, depth: int) -> None:
        import torch

        n, chunk_size = self.arguments.prefill, self.arguments.chunk
        ids = torch.randint(3, decoder.shape.n_vocab, (n,))
        for is_timed in (False, True):
            cache.truncate(depth)
            self._synchronise()
            began = time.perf_counter()
            for at in range(0, n, chunk_size):
                chunk = decoder.compute(ids[at : at + chunk_size], cache)
                cache.append(chunk.k, chunk.v)
            self._synchronise()
            if is_timed:
                took = time.perf_counter() - began
                self.note(f"prefill {n} {kind} at {depth}", tok_s=n / took)

    def _synchronise(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()

    # -- llama.cpp --------------------------------------------------------------------------------

    def llama(self) -> None:
        """Run llama-bench on the same file and note what it says."""
        for kind in self.arguments.kv:
            for depth in self.arguments.depths:
                prefill = "0" if depth > 100_000 else str(self.arguments.prefill)
                command = [self.arguments.llama_bench, "-m", self.arguments.model]
                command += ["-ngl", "99", "-fa", "1", "-ctk", kind, "-ctv", kind, "-r", "2"]
                command += ["-d", str(depth), "-p", prefill, "-n", str(self.arguments.tokens)]
                command += ["-ub", "2048", "-o", "jsonl"]
                done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
                for line in re.findall(r"^\{.*\}$", done.stdout, re.M):
                    found = json.loads(line)
                    what = "prefill" if found["n_prompt"] else "decode"
                    self.note(f"llama.cpp {what} {kind} at {depth}", tok_s=float(found["avg_ts"]))


def _random_rows(kind: str, n: int, k: int, seed: int) -> Any:
    """Random bytes as rows of a format, their scales small enough to stay finite."""
    import numpy as np
    import torch

    from kernels.dequantise import BLOCKS

    block, n_bytes = BLOCKS[kind]
    rows = np.random.default_rng(seed).integers(0, 256, (n, k // block, n_bytes), dtype=np.uint8)
    for at in {"Q6_K": (208,), "Q8_0": (0,)}.get(kind, (0, 2)):
        rows[..., at : at + 2] = np.array([0.001], np.float16).view(np.uint8)
    return torch.from_numpy(rows.reshape(n, -1))


def _filled_cache(n: int, bits: int, device: Any, n_layers: int) -> Any:
    """A cache of an 8B model's heads with `n` random tokens."""
    from models.kv_cache import KvCache, KvFormat, PagePool
    from models.torch_shape import Shape

    n_heads, n_kv, dim = (32, 8, 128) if device.type == "cuda" else (4, 2, 64)
    shape = Shape(
        "llama",
        n_layers,
        n_heads * dim,
        n_heads,
        n_kv,
        dim,
        4 * n_heads * dim,
        32_000,
        1e-5,
        dim,
        is_interleaved=True,
        has_qk_norm=False,
        is_tied=False,
        window=0,
    )
    pool = PagePool((n // 64 + 2) * n_layers * n_kv, dim, KvFormat(bits, bits), device)
    cache = KvCache(pool, shape)
    _fill(cache, n)
    return cache


def _fill(cache: Any, n: int) -> None:
    """Append random K and V: the speed does not depend on what they are."""
    import torch

    shape = cache.shape
    for at in range(0, n, 4_096):
        size = (shape.n_layers, shape.n_kv_heads, min(4_096, n - at), shape.head_dim)
        k, v = (torch.randn(size, dtype=torch.float16, device=cache.pool.device) for _ in "kv")
        cache.append(k, v)


if __name__ == "__main__":
    main()
