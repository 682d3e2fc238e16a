"""Ring attention: one GPU against several, on one host. One process a GPU, NCCL.

    python -m docqa.bench.ring MODEL.gguf [--world 2] [--length 131072] [--longest 262144]
    python -m docqa.bench.ring MODEL.gguf --dry     # two processes on the CPU, gloo, little text

Prints whether the logits are those of one GPU (beside what another order of the same sums in
bfloat16 moves them by), the prefill's time on one and on all, the longest context in full, memory,
the link's rate, and what a model of compute and link says of these and of eight GPUs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from docqa.bench.torch_model import load_model

SEED, N_STEPS = 1, 8
LINK_BYTES = 1 << 30


def main() -> None:
    """Run the benchmark, or one rank of it."""
    parser = argparse.ArgumentParser(prog="docqa.bench.ring", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--short", type=int, default=8_192, help="tokens, to compare logits on")
    parser.add_argument("--length", type=int, default=131_072, help="tokens, to compare times on")
    parser.add_argument("--longest", type=int, default=262_144, help="tokens, on all GPUs alone")
    parser.add_argument(
        "--dry", action="store_true", help="little text, on the CPU where no GPU is"
    )
    parser.add_argument("--out", type=Path, help="append JSON lines here")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.dry:
        arguments.short, arguments.length, arguments.longest = 64, 128, 256
    if arguments.rank is not None:
        Rank(arguments).run()
        return
    with tempfile.TemporaryDirectory() as folder:
        for world in (1, arguments.world):
            start(world, Path(folder))
        report(arguments, Path(folder))


def start(world: int, folder: Path) -> None:
    """Run all ranks of a group and wait for them."""
    command = [sys.executable, "-m", "docqa.bench.ring", *sys.argv[1:], "--of", str(world)]
    command += ["--folder", str(folder)]
    ranks = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(world)]
    try:
        failed = any([rank.wait() for rank in ranks])
    finally:
        for rank in ranks:
            rank.kill()
    if failed:
        raise SystemExit(f"a rank of {world} failed")


class Rank:
    """One process of a group. Rank 0 writes what was found as `WORLD.json`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        import torch
        import torch.distributed as dist

        self.arguments, self.rank, self.world = arguments, arguments.rank, arguments.of
        self.found: dict[str, Any] = {}
        is_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", self.rank) if is_gpu else torch.device("cpu")
        more: dict[str, Any] = {}
        if is_gpu:
            torch.cuda.set_device(self.device)
            more["device_id"] = self.device
        else:
            torch.set_num_threads(1)
        meeting = arguments.folder / f"meet{self.world}"
        dist.init_process_group(
            "nccl" if is_gpu else "gloo",
            init_method=f"file://{meeting}",
            rank=self.rank,
            world_size=self.world,
            **more,
        )
        self.ring = self._ring()

    def _ring(self) -> Any:
        from models.ring import Ring, RingDecoder

        model = load_model(self.arguments.model, self.device)
        return RingDecoder(model.decoder(self.arguments.longest), Ring(self.rank, self.world))

    def run(self) -> None:
        """Measure what this group is for."""
        import torch
        import torch.distributed as dist

        arguments, found = self.arguments, self.found
        found["gpu_bytes"] = self._gpu_bytes()
        logits = [self.ring.prefill(self._tokens(arguments.short))]
        logits += [self.ring.step(5 + i) for i in range(N_STEPS)]
        if self.rank == 0:
            torch.save(torch.stack(logits).cpu(), arguments.folder / f"short{self.world}.pt")
        if self.world == 1:
            torch.save(self._in_chunks(arguments.short).cpu(), arguments.folder / "chunks.pt")
            found["attention_s"] = self._attention(arguments.length)
        lengths = [arguments.length] if self.world == 1 else [arguments.length, arguments.longest]
        for length in lengths:
            found[f"prefill_{length}"] = self._prefill(length, logits)
            if self.rank == 0:
                torch.save(logits[0].cpu(), arguments.folder / f"long{self.world}-{length}.pt")
            found[f"peak_{length}"] = self._peak()
            found[f"step_{length}"] = self._steps()
        if self.world > 1:
            found["link_bytes_s"] = self._link()
        if self.rank == 0:
            path = arguments.folder / f"{self.world}.json"
            path.write_text(json.dumps(found), encoding="utf-8")
        dist.barrier()
        dist.destroy_process_group()

    def _tokens(self, n: int) -> Any:
        import torch

        generator = torch.Generator().manual_seed(SEED)
        return torch.randint(3, self.ring.decoder.shape.n_vocab, (n,), generator=generator)

    def _prefill(self, n: int, logits: list[Any]) -> float:
        """Return the seconds of a prefill; `logits` becomes what it gave."""
        import torch
        import torch.distributed as dist

        self.ring.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        dist.barrier()
        self._synchronise()
        began = time.perf_counter()
        logits[:] = [self.ring.prefill(self._tokens(n))]
        self._synchronise()
        return time.perf_counter() - began

    def _steps(self) -> float:
        """Return the seconds of a decoded token."""
        self.ring.step(5)
        self._synchronise()
        began = time.perf_counter()
        for i in range(N_STEPS):
            self.ring.step(6 + i)
        self._synchronise()
        return (time.perf_counter() - began) / N_STEPS

    def _in_chunks(self, n: int) -> Any:
        """Return the logits of the plain decoder, in chunks: the same sums in another order."""
        import torch

        from models.kv_cache import KvCache, KvFormat, PagePool

        decoder = self.ring.decoder
        shape, tokens = decoder.shape, self._tokens(n)
        n_pages = (n // 64 + 2) * shape.n_layers * shape.n_kv_heads
        form = KvFormat(16, 16)
        cache = KvCache(PagePool(n_pages, shape.head_dim, form, self.device), shape)
        for at in range(0, n, max(16, n // 4)):
            chunk = decoder.compute(tokens[at : at + max(16, n // 4)], cache)
            cache.append(chunk.k, chunk.v)
        logits: torch.Tensor = decoder.logits(chunk.hidden[-1:])[0]
        return logits

    def _attention(self, n: int) -> float:
        """Return the seconds of causal attention over `n` tokens, all layers."""
        import torch

        from models.ring import local_attention

        shape = self.ring.decoder.shape
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        q = torch.randn(shape.n_heads, n, shape.head_dim, device=self.device, dtype=dtype)
        k = torch.randn(shape.n_kv_heads, n, shape.head_dim, device=self.device, dtype=dtype)
        times: list[float] = []
        for _ in range(2):
            self._synchronise()
            began = time.perf_counter()
            local_attention(q, k, k, True)
            self._synchronise()
            times.append(time.perf_counter() - began)
        return min(times) * float(shape.n_layers)

    def _link(self) -> float:
        """Return the bytes a second from a rank to the next while all send."""
        import torch
        import torch.distributed as dist

        from models.ring import pass_on

        n_bytes = 1 << 16 if self.arguments.dry else LINK_BYTES
        block = torch.zeros(n_bytes // 2, dtype=torch.float16, device=self.device)
        best = 0.0
        for _ in range(4):
            dist.barrier()
            self._synchronise()
            began = time.perf_counter()
            for wait in pass_on(block, self.ring.ring, 0)[1]:
                wait.wait()
            self._synchronise()
            best = max(best, n_bytes / (time.perf_counter() - began))
        return best

    def _gpu_bytes(self) -> int:
        import torch

        return int(torch.cuda.mem_get_info()[1] * 0.98) if self.device.type == "cuda" else 0

    def _peak(self) -> int:
        import torch

        return int(torch.cuda.max_memory_allocated()) if self.device.type == "cuda" else 0

    def _synchronise(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()


# -- what was found -------------------------------------------------------------------------------


def report(arguments: argparse.Namespace, folder: Path) -> None:
    """Print the figures of both groups beside each other."""
    import torch

    world, n, longest = arguments.world, arguments.length, arguments.longest

    def note(what: str, **figures: Any) -> None:
        shown = "  ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()
        )
        print(f"{what:34s} {shown}", flush=True)
        if arguments.out:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"what": what, **figures}) + "\n")

    one, many = (json.loads((folder / f"{w}.json").read_text(encoding="utf-8")) for w in (1, world))
    a, b, chunks = (torch.load(folder / f"{x}.pt") for x in ("short1", f"short{world}", "chunks"))
    note(
        f"{world} ranks beside one, {arguments.short} tokens",
        difference=_apart(b[0], a[0]),
        after_steps=_apart(b[-1], a[-1]),
        of_another_order=_apart(chunks, a[0]),
        same_choices=f"{int((a.argmax(-1) == b.argmax(-1)).sum())} of {len(a)}",
    )
    long1, long2 = torch.load(folder / f"long1-{n}.pt"), torch.load(folder / f"long{world}-{n}.pt")
    t1, t2 = one[f"prefill_{n}"], many[f"prefill_{n}"]
    note(
        f"prefill {n}",
        one_s=t1,
        all_s=t2,
        times=t1 / t2,
        tok_s=n / t2,
        difference=_apart(long2, long1),
    )
    note(f"prefill {longest} in full", s=many[f"prefill_{longest}"])
    note(f"a token after {n}", one_ms=1e3 * one[f"step_{n}"], all_ms=1e3 * many[f"step_{n}"])
    peaks = one[f"peak_{n}"], many[f"peak_{n}"], many[f"peak_{longest}"]
    note(
        "memory at most, GB",
        **dict(zip(("one", "all", "longest"), (p / 1e9 for p in peaks), strict=True)),
    )
    a_token = (peaks[2] - peaks[1]) / (longest - n) if peaks[2] else 0.0  # of a rank
    if a_token:
        fixed = peaks[1] - a_token * n
        fit_all = int((many["gpu_bytes"] - fixed) / a_token)
        fit_one = int((one["gpu_bytes"] - fixed) / (a_token * world))
        note("longest context that fits", one=fit_one, all=fit_all, times=fit_all / fit_one)
    link = many["link_bytes_s"]
    attention = one["attention_s"]
    note("link", gb_s=link / 1e9, attention_share_of_one=attention / t1)
    for w in sorted({world, 8}):
        predicted, exposed = model(t1, attention, _kv_bytes(arguments.model, n), link, w)
        measured = {"measured_s": t2} if w == world else {}
        note(
            f"model of {w} ranks, {n} tokens",
            s=predicted,
            times=t1 / predicted,
            link_not_hidden_s=exposed,
            **measured,
        )


def model(
    t1: float, attention: float, kv_bytes: float, link: float, world: int
) -> tuple[float, float]:
    """Return the seconds on `world` ranks, and those of the link that computing does not hide.

    Everything is shared evenly. At each of W - 1 turns a rank passes a share of K and V on while it
    computes a share of the attention.
    """
    turn = attention / world**2
    passing = kv_bytes / world / link
    exposed = (world - 1) * max(0.0, passing - turn)
    return t1 / world + exposed, exposed


def _kv_bytes(path: Path, n: int) -> float:
    from models.model_file import read_model
    from models.torch_shape import shape_of

    shape = shape_of(read_model(path))
    return 4.0 * n * shape.n_layers * shape.n_kv_heads * shape.head_dim


def _apart(a: Any, b: Any) -> float:
    apart = (a.float() - b.float()).norm() / b.float().norm()
    return float(apart)


if __name__ == "__main__":
    main()
