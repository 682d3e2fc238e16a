"""The kernels of the torch engine alone, each for many block sizes: a part of `torch_gpu`.

Every configuration is checked against the plain product or attention on random data before it is
timed, and its share of what a copy moves is printed. The best go into `kernels/tuned.py`.
"""

from __future__ import annotations

import itertools
import multiprocessing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kernels.tuned import AttendBlocks, attend_blocks

if TYPE_CHECKING:
    from docqa.bench.torch_gpu import Bench

Blocks = tuple[int, int, int, int]

# Q, K and V in one; output; gate and up in one; down; the vocabulary's.
SHAPES = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (32000, 4096))
SMALL_SHAPES = ((48, 512),)
OTHER_KINDS = ("Q5_K", "Q6_K", "Q8_0", "Q4_1")
MATVEC: tuple[Blocks, ...] = tuple(itertools.product((1, 2), (32, 64), (1,), (1, 2, 4)))
OTHER_MATVEC = MATVEC
PROGRAMS = (8, 12, 16)  # of a multiprocessor
KERNELS = ("attention", "matvec", "between", "unpack")
UNPACK = tuple(itertools.product((16, 32, 64, 128), (4, 8)))  # runs of a program, warps
LEAST_BYTES = 200 << 20  # of the matrices in turn: more than the cache on the chip
RIGHT = {"matvec": 3e-4, "attention": 5e-3}


def attend_variants(bits: int) -> list[AttendBlocks]:
    """Return ways to read a cache, the one in use first."""
    found = [attend_blocks(bits)]
    if bits == 16:
        return [*found, AttendBlocks(4, 2, 8, 9), AttendBlocks(4, 2, 8, 3)]
    for stages, registers in itertools.product((1, 2, 3), (0, 128, 152, 168, 192, 224)):
        found.append(AttendBlocks(1, stages, 8, 9, most_registers=registers))
    return found


def label(blocks: AttendBlocks) -> str:
    """Name a way to read a cache."""
    name = f"{blocks.num_warps}w{blocks.num_stages}s/{blocks.programs}"
    return f"{name} d{blocks.dense_parts}" + f" r{blocks.most_registers}" * (
        blocks.most_registers > 0
    )


class Sweep:
    """The kernels' part of a run."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.device = bench, bench.device
        self.is_dry: bool = bench.arguments.dry

    def run(self) -> None:
        """Check and time each kernel alone."""
        wanted = self.bench.arguments.kernels
        if "attention" in wanted:
            for bits in self.bench.arguments.bits:
                for n in [d for d in self.bench.arguments.depths if d]:
                    self.attention(bits, n)
        if "matvec" in wanted:
            for n, k in SMALL_SHAPES if self.is_dry else SHAPES:
                self.matvec("Q4_K", n, k, MATVEC)
            for kind in OTHER_KINDS:
                self.matvec(kind, *(SMALL_SHAPES[0] if self.is_dry else SHAPES[1]), OTHER_MATVEC)
        if "between" in wanted:
            self.between()
        if "unpack" in wanted:
            self.unpack()

    def report(
        self, what: str, n_bytes: int, found: list[tuple[float, str, float]], limit: float
    ) -> None:
        """Note (seconds, configuration, error) of all configurations, then the best."""
        found.sort()
        for took, name, error in found:
            wrong = {} if error < limit else {"WRONG": error}
            share = self.bench.share(n_bytes, took)
            self.bench.note(f"  {what}", blocks=name, us=took * 1e6, share=share, **wrong)
        right = [row for row in found if row[2] < limit]
        if right:
            took, name, error = right[0]
            share = self.bench.share(n_bytes, took)
            self.bench.note(f"BEST {what}", blocks=name, us=took * 1e6, share=share, error=error)

    def matvec(self, kind: str, n: int, k: int, blocks: tuple[Blocks, ...]) -> None:
        """Sweep the product."""
        import torch

        from kernels.integers import Activations
        from kernels.matvec import bytes_moved, matvec, prepare

        matrices = self._matrices(kind, n, k)
        x, out = torch.randn(k, device=self.device), torch.empty(n, device=self.device)
        room = Activations.room(k, self.device)
        prepare(x, room)
        truth = matrices[0].dense().double() @ x.double()
        found = []
        for chosen in blocks[: 2 if self.is_dry else None]:

            def work(chosen: Blocks = chosen) -> None:
                for matrix in matrices:
                    matvec(matrix, room, out, blocks=chosen)

            label = "{}x{}/{} {}".format(*chosen)
            try:
                out.fill_(float("nan"))
                matvec(matrices[0], room, out, blocks=chosen)
                wrong = float((out - truth).norm() / truth.norm())
                took = self.bench.seconds(self.bench.recorded(work), 12) / len(matrices)
            except Exception as problem:  # too many registers, say: the others still count
                self.bench.note(f"  matvec {kind}", blocks=label, failed=str(problem)[:99])
                continue
            found.append((took, label, wrong))
        self.report(f"matvec {kind} {n}x{k}", bytes_moved(matrices[0]), found, RIGHT["matvec"])

    def _matrices(self, kind: str, n: int, k: int) -> list[Any]:
        from kernels.packed import pack

        first = pack(random_rows(kind, n, k, 0).to(self.device), kind)
        more = 1 if self.is_dry else LEAST_BYTES // first.n_bytes + 1
        return [first, *(self._shuffled(first, seed) for seed in range(1, more + 1))]

    def _shuffled(self, matrix: Any, seed: int) -> Any:
        """Another matrix of the same format: the rows in another order, at another place."""
        import torch

        order = torch.randperm(matrix.n, generator=torch.Generator().manual_seed(seed))
        return matrix.rows(order.to(self.device))

    def between(self) -> None:
        """Time what runs between the products: it moves little, so its time is what counts."""
        import torch

        from kernels.integers import Activations
        from kernels.matvec import prepare

        k, wide = (512, 512) if self.is_dry else (4096, 14336)
        x, gated = (torch.randn(size, device=self.device) for size in (k, 2 * wide))
        norm = torch.rand(k, device=self.device)
        rooms = Activations.room(k, self.device), Activations.room(wide, self.device)
        for block_r, warps in ((1, 1), (2, 1), (4, 1), (4, 2), (4, 4)):
            for what in ("norm", "gate"):

                def work(what: str = what, block_r: int = block_r, warps: int = warps) -> None:
                    is_gated = what == "gate"
                    source, room = (gated, rooms[1]) if is_gated else (x, rooms[0])
                    for _ in range(64):
                        prepare(
                            source,
                            room,
                            norm=None if is_gated else norm,
                            eps=1e-5,
                            is_gated=is_gated,
                            block_r=block_r,
                            num_warps=warps,
                        )

                took = self.bench.seconds(self.bench.recorded(work), 12) / 64
                self.bench.note(f"  prepare {what}", blocks=f"{block_r}/{warps}", us=took * 1e6)

    def unpack(self) -> None:
        """Time the unpacking for a prefill."""
        import torch

        from kernels.unpack import unpack

        n, k = SMALL_SHAPES[0] if self.is_dry else (28672, 4096)
        matrices = self._matrices("Q4_K", n, k)
        truth = matrices[0].dense().to(torch.bfloat16)
        plain = self.bench.seconds(lambda: matrices[0].dense(torch.bfloat16), 5)
        self.bench.note("  unpack Q4_K in plain torch", us=plain * 1e6)
        found = []
        for block, warps in UNPACK[: 1 if self.is_dry else None]:
            one = unpack(matrices[0], block=block, num_warps=warps)
            wrong = float((one.float() - truth.float()).norm() / truth.float().norm())

            def work(block: int = block, warps: int = warps) -> None:
                for matrix in matrices:
                    unpack(matrix, block=block, num_warps=warps)

            took = self.bench.seconds(self.bench.recorded(work), 12) / len(matrices)
            found.append((took, f"{block}/{warps}", wrong))
        self.report(f"unpack Q4_K {n}x{k}", matrices[0].n_bytes + 2 * n * k, found, 1e-2)

    def attention(self, bits: int, n: int) -> None:
        """Sweep the attention over `n` tokens."""
        import torch

        from kernels import reference
        from kernels.decode_attention import Partials, attend
        from models.torch_step import DeviceTables

        cache = filled_cache(n, bits, self.device, n_layers=2)
        shape = cache.shape
        tables = DeviceTables(cache, n // 64 + 2)
        tables.refresh(cache)
        q = torch.randn(shape.n_heads, shape.head_dim, device=self.device)
        merged = torch.empty_like(q)
        k, v, _ = cache.layer(0)
        truth = reference.attend(q[:, None], k, v, scale=shape.head_dim**-0.5)[0][:, 0]
        del k, v
        n_units = 132
        if self.device.type == "cuda":
            n_units = torch.cuda.get_device_properties(self.device).multi_processor_count
        found = []
        for programs in PROGRAMS[: 1 if self.is_dry else None]:
            parts = 3 if self.is_dry else programs * n_units // shape.n_kv_heads // 64 * 64
            partials = Partials(
                torch.empty(parts, *q.shape, device=self.device),
                torch.empty(parts, shape.n_heads, device=self.device),
            )
            for one in attend_variants(bits)[: 1 if self.is_dry else None]:
                blocks = replace(one, programs=programs)

                def work(blocks: AttendBlocks = blocks, partials: Partials = partials) -> None:
                    for layer in range(shape.n_layers):
                        attend(q, tables.layer(layer), partials, merged, blocks=blocks)

                try:
                    merged.fill_(float("nan"))
                    attend(q, tables.layer(0), partials, merged, blocks=blocks)
                    wrong = float((merged - truth).norm() / truth.norm())
                    took = self.bench.seconds(self.bench.recorded(work), 12) / shape.n_layers
                except Exception as problem:  # too many registers, say: the others still count
                    failed = str(problem)[:99]
                    self.bench.note("  attention", blocks=label(blocks), failed=failed)
                    continue
                found.append((took, label(blocks), wrong))
        n_bytes = cache.n_bytes // shape.n_layers
        self.report(f"attention {bits} bits {n}", n_bytes, found, RIGHT["attention"])


# -- compiling ------------------------------------------------------------------------------------


def warm_up(n_processes: int, kernels: list[str], bits: list[int]) -> int:
    """Compile every configuration in processes of their own, into Triton's cache; their number.

    A matrix of few rows, or a small cache, compiles the same kernel as a large one.
    """
    tasks: list[tuple[str, Any, int, Any]] = []
    if "attention" in kernels:
        tasks += [("attention", b, 0, way) for b in bits for way in attend_variants(b)]
    if "matvec" in kernels:
        tasks += [("matvec", "Q4_K", k, b) for b in MATVEC for k in {k for _, k in SHAPES}]
        k = SHAPES[1][1]
        tasks += [("matvec", kind, k, b) for kind in OTHER_KINDS for b in OTHER_MATVEC]
    if "unpack" in kernels:
        tasks += [("unpack", "Q4_K", 2048, b) for b in UNPACK]
    with multiprocessing.get_context("spawn").Pool(n_processes) as pool:
        failed = [why for why in pool.imap_unordered(compile_one, tasks) if why]
    for why in failed:
        print("not compiled:", why)
    return len(tasks)


def compile_one(task: tuple[str, Any, int, Any]) -> str:
    """Run one configuration (kernel, format, K, blocks) on little data; return what went wrong."""
    import torch

    from kernels.decode_attention import Partials, attend
    from kernels.integers import Activations
    from kernels.matvec import matvec
    from kernels.packed import pack
    from kernels.unpack import unpack
    from models.torch_step import DeviceTables

    what, form, k, blocks = task
    device = torch.device("cuda")
    try:
        if what == "attention":
            cache = filled_cache(256, form, device, n_layers=1)
            tables = DeviceTables(cache, 16)
            tables.refresh(cache)
            q = torch.zeros(cache.shape.n_heads, cache.shape.head_dim, device=device)
            partials = Partials(
                torch.empty(64, *q.shape, device=device), torch.empty(64, len(q), device=device)
            )
            merged = torch.empty_like(q)
            attend(q, tables.layer(0), partials, merged, blocks=blocks)
            return ""
        matrix = pack(random_rows(form, 48, k, 0).to(device), form)
        out = torch.empty(48, device=device)
        if what == "unpack":
            unpack(matrix, block=blocks[0], num_warps=blocks[1])
        else:
            matvec(matrix, Activations.room(k, device), out, blocks=blocks)
    except Exception as error:  # a configuration that does not compile must not end the others
        return f"{task}: {type(error).__name__} {error}"
    return ""


# -- data -----------------------------------------------------------------------------------------


def random_rows(kind: str, n: int, k: int, seed: int) -> Any:
    """Random bytes as rows of a format, their scales small enough to stay finite."""
    import numpy as np
    import torch

    from kernels.dequantise import BLOCKS

    block, n_bytes = BLOCKS[kind]
    rows = np.random.default_rng(seed).integers(0, 256, (n, k // block, n_bytes), dtype=np.uint8)
    for at in {"Q6_K": (208,), "Q8_0": (0,)}.get(kind, (0, 2)):
        rows[..., at : at + 2] = np.array([0.001], np.float16).view(np.uint8)
    return torch.from_numpy(rows.reshape(n, -1))


def filled_cache(n: int, bits: int, device: Any, n_layers: int) -> Any:
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
    fill(cache, n)
    return cache


def fill(cache: Any, n: int) -> None:
    """Append random K and V: the speed does not depend on what they are."""
    import torch

    shape = cache.shape
    for at in range(0, n, 4_096):
        size = (shape.n_layers, shape.n_kv_heads, min(4_096, n - at), shape.head_dim)
        k, v = (torch.randn(size, dtype=torch.float16, device=cache.pool.device) for _ in "kv")
        cache.append(k, v)
