"""The torch engine on a GPU, beside llama.cpp in the same run: kernels, decode, prefill.

    python -m docqa.bench.torch_gpu MODEL.gguf [--llama-bench PATH] [--depths 0 32768 122880]
    python -m docqa.bench.torch_gpu MODEL.gguf --dry        # small sizes, no timing: runs on a CPU

Prints what the bytes allow (a copy, measured first), each kernel's share of it for many block sizes
(`docqa.bench.torch_kernels`), then tokens a second of the whole step and of the prefill, where
a step's time goes, and llama-bench's figures for the same file, KV type and depth. Only torch,
Triton, NumPy and msgspec are needed; one JSON line a figure goes to --out.
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

from docqa.bench.torch_kernels import KERNELS, Sweep, fill, warm_up
from docqa.bench.torch_model import load_model

KV = {"f16": 16, "q8_0": 8, "q4_0": 4}
COPY_BYTES = 4 << 30
DEEP = 100_000


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="docqa.bench.torch_gpu", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--depths", type=int, nargs="*", default=[0, 32_768, 122_880])
    parser.add_argument("--kv", nargs="*", choices=tuple(KV), default=list(KV))
    parser.add_argument("--tokens", type=int, default=128, help="decoded for a figure")
    parser.add_argument("--prefill", type=int, default=8_192)
    parser.add_argument("--chunk", type=int, default=8_192)
    parser.add_argument("--llama-bench", type=Path, help="to run beside, on the same file")
    parser.add_argument(
        "--deep-kv", nargs="*", default=["q8_0"], help="KV types llama.cpp runs at the deepest with"
    )
    parts = ("kernels", "decode", "prefill", "llama")
    parser.add_argument("--only", nargs="*", choices=parts)
    parser.add_argument("--bits", type=int, nargs="*", default=[8, 4, 16], help="of attention's KV")
    parser.add_argument("--kernels", nargs="*", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--warm-up", type=int, default=0, help="processes that compile first")
    parser.add_argument("--profile", action="store_true", help="where a decoded token's time goes")
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
        if self.wants("kernels") and self.arguments.warm_up and self.device.type == "cuda":
            began = time.perf_counter()
            n = warm_up(self.arguments.warm_up, self.arguments.kernels, self.arguments.bits)
            self.note("compiled", configurations=n, s=time.perf_counter() - began)
        self.ceiling()
        if self.wants("kernels"):
            Sweep(self).run()
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

    def recorded(self, work: Callable[[], object]) -> Callable[[], object]:
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

        began = time.perf_counter()
        model = load_model(self.arguments.model, self.device)
        shape = model.shape
        decoder = model.decoder(max(self.arguments.depths) + self.arguments.prefill + 1024)
        n_bytes = sum(x.packed.n_bytes for x in model.weights.linears.values() if x.packed)
        self.note("loaded", s=time.perf_counter() - began, weights_gb=n_bytes / 1e9)
        for kind in self.arguments.kv:
            for depth in sorted(self.arguments.depths):
                per_head = -(-(depth + self.arguments.prefill + 256) // 64) + 1
                n_pages = per_head * shape.n_layers * shape.n_kv_heads
                form = KvFormat(KV[kind], KV[kind])
                cache = KvCache(PagePool(n_pages, shape.head_dim, form, self.device), shape)
                fill(cache, depth)
                if self.wants("decode"):
                    self._decode(decoder, cache, kind, depth, n_bytes)
                if self.wants("prefill") and depth <= DEEP:
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
            step.run(1, cache)
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
        if step is not None:
            took = self.seconds(lambda: step.launch(cache), 20)
            self.note(f"step {kind} at {depth}", ms_of_graph=took * 1e3)
            if self.arguments.profile:
                self._profile(lambda: step.launch(cache), f"{kind} at {depth}")

    def _profile(self, replay: Callable[[], object], what: str, n: int = 5) -> None:
        """Note the kernels of a step by their time; nothing where the driver does not tell."""
        import torch
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as found:
            for _ in range(n):
                replay()
            torch.cuda.synchronize()
        rows = sorted(found.key_averages(), key=lambda r: -r.device_time_total)
        for row in rows[:12]:
            self.note(
                f"  of a step {what}",
                kernel=row.key[:48],
                launches=row.count // n,
                us_each=row.device_time_total / row.count,
                us_a_step=row.device_time_total / n,
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
        """Run llama-bench on the same file and note what it says.

        A process for each KV type; the deepest alone, decoded only: it takes as long as the others.
        """
        for kind in self.arguments.kv:
            shallow = [d for d in self.arguments.depths if d <= DEEP]
            if shallow:
                self._llama_bench(kind, shallow, self.arguments.prefill)
            if kind in self.arguments.deep_kv:
                for depth in self.arguments.depths:
                    if depth > DEEP:
                        self._llama_bench(kind, [depth], 0)

    def _llama_bench(self, kind: str, depths: list[int], prefill: int) -> None:
        command = [self.arguments.llama_bench, "-m", self.arguments.model]
        command += ["-ngl", "99", "-fa", "1", "-ctk", kind, "-ctv", kind, "-r", "2"]
        command += ["-d", ",".join(map(str, depths)), "-p", prefill, "-ub", "2048"]
        command += ["-n", self.arguments.tokens, "-o", "jsonl"]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode:
            self.note(f"llama.cpp {kind}", failed=done.stderr[-300:])
        for line in re.findall(r"^\{.*\}$", done.stdout, re.M):
            found = json.loads(line)
            what = "prefill" if found["n_prompt"] else "decode"
            depth = found["n_depth"]
            self.note(f"llama.cpp {what} {kind} at {depth}", tok_s=float(found["avg_ts"]))


if __name__ == "__main__":
    main()
