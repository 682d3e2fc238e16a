"""What `docqa plan` shows: a model on this machine, before it is loaded and, on request, after.

`report(...)` reads the file's header and looks at the machine; `check(...)` loads the model as
planned and measures what was estimated. Memory is estimated to within a tenth (held by tests);
times are of the kernels alone, measured for a second, and of an idle machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from docqa.config import Config, ModelConfig
from docqa.errors import ModelRefused
from docqa.protocols import Piece
from docqa.types import Segment
from models.beside import Beside, beside
from models.catalog import choose_adapter, resolve
from models.hardware import Hardware, detect, measured, nvidia
from models.kv_quality import KvComparison, recommend
from models.load_plan import AUTO_PAIR, physical_cores
from models.memory import needs
from models.model_file import ModelFile, read_model
from models.planner import (
    CONTEXTS,
    GPU_OVERHEAD_BYTES,
    Plan,
    Row,
    decode_s,
    looked_up_bytes,
    plan,
    prefill_s,
    table,
)
from models.rope import RopePlan, plan_rope

CHECKED_TOKENS, GPU_CHECKED_TOKENS, SAID_TOKENS = 512, 8192, 24
LEAST_TEST_TOKENS, MOST_TEST_TOKENS = 64, 4096


@dataclass(frozen=True, slots=True)
class PlanReport:
    """Everything that is known before loading."""

    model: ModelFile
    hardware: Hardware
    beside: Beside
    rope: RopePlan
    chosen: Plan
    rows: tuple[Row, ...]

    @property
    def on_gpu(self) -> bool:
        """Whether the memory in question is a GPU's."""
        return self.chosen.is_on_gpu

    @property
    def total_bytes(self) -> int:
        """Of the chosen plan, everything beside it included."""
        return self.chosen.needs.total + self.beside.reserved(on_gpu=self.on_gpu)


def report(config: Config) -> PlanReport:
    """Return what fits of `config.model`, its context and KV types as configured.

    Raises:
        ModelError: no such model, its file is refused, or the context is.
    """
    wished = config.model
    model = read_model(resolve(wished.path))
    adapter = choose_adapter(wished.adapter, model)
    rope = plan_rope(model, wished.context_length, wished.rope, force=wished.force)
    others = beside(adapter.path if adapter else None, config.embed, config.retrieve)
    found = detect(measures_speed=True)
    on_gpu = found.vram_bytes > 0
    reserved = others.reserved(on_gpu=on_gpu)
    pair = (wished.kv_type_k, wished.kv_type_v)
    chosen = plan(
        model,
        found,
        context_length=rope.context_length if wished.context_length else 0,
        kv_types=None if pair == AUTO_PAIR else pair,
        memory_bytes=int(wished.memory_gib * 2**30),
        reserved_bytes=reserved,
    )
    taken = (chosen.kv_type_k, chosen.kv_type_v)
    threads = wished.n_threads or physical_cores()
    kinds = {("f16", "f16"), ("q8_0", "q8_0"), ("q4_0", "q4_0"), taken}
    speeds = {kind: measured(found, model, kind, threads) for kind in kinds}
    rows = table(
        model,
        found,
        int(wished.memory_gib * 2**30),
        reserved,
        contexts=sorted({*CONTEXTS, chosen.context_length}),
        also=taken,
        speeds=speeds,
    )
    return PlanReport(model, speeds[taken], others, rope, chosen, tuple(rows))


# -- after loading --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """An estimate beside what was measured with the model loaded."""

    name: str
    unit: str
    estimated: float
    measured: float

    @property
    def ratio(self) -> float:
        """Estimated over measured."""
        return self.estimated / self.measured if self.measured else float("nan")


def check(found: PlanReport, config: ModelConfig) -> list[Check]:
    """Load the model as planned, read and write some tokens, and compare.

    Raises:
        ModelError: it cannot be loaded.
    """
    import psutil

    from models.host import open_engine
    from models.private_host import PrivateProcess

    chosen = found.chosen
    wished = GPU_CHECKED_TOKENS if found.on_gpu else CHECKED_TOKENS
    n_prompt = min(wished, chosen.context_length - SAID_TOKENS - 8)
    before = nvidia() if found.on_gpu else None
    with open_engine(_as_planned(config, chosen), guesses=False) as engine:
        engine.wait_until_ready()
        text = Path(__file__).read_text("utf-8") * 8
        tokens = engine.tokenize([Segment(text, False)])[0][:n_prompt]
        # The same once before: weights are paged in, and a GPU loads each kernel at its first use.
        # Without, decoding on an H200 came out at 379 tokens/s, and longer answers ran at 736.
        list(engine.generate(tokens, max_tokens=SAID_TOKENS))
        engine.forget_kv()  # attention passes over every conversation in the context
        times = [time.perf_counter()]
        for event in engine.generate(tokens[::-1], max_tokens=SAID_TOKENS):
            if isinstance(event, Piece) and event.token >= 0:
                times.append(time.perf_counter())
        assert isinstance(engine.process, PrivateProcess)
        if before is None:
            n_bytes = psutil.Process(engine.process.pid).memory_info().rss
            wanted = chosen.needs.total + found.beside.process + found.beside.adapter
        else:
            after = nvidia()
            n_bytes = before[1] - (after[1] if after else before[1])
            # Rows of the embedding are looked up in RAM; the driver keeps something for itself.
            wanted = chosen.needs.total + found.beside.adapter
            wanted += GPU_OVERHEAD_BYTES - looked_up_bytes(found.model)
    kv = needs(found.model, n_prompt, chosen.kv_type_k, chosen.kv_type_v).kv
    rows = [
        Check("memory", "GiB", wanted / 2**30, n_bytes / 2**30),
        Check(
            f"prefill of {n_prompt}",
            "s",
            prefill_s(found.model, found.hardware, n_prompt),
            times[1] - times[0] if len(times) > 1 else 0.0,
        ),
    ]
    if len(times) > 2:
        each = (times[-1] - times[1]) / (len(times) - 2)
        speed = 1.0 / decode_s(found.model, found.hardware, kv)
        rows.append(Check("decode", "tokens/s", speed, 1.0 / each))
    return rows


def _as_planned(config: ModelConfig, chosen: Plan) -> ModelConfig:
    from dataclasses import replace

    return replace(
        config,
        context_length=chosen.context_length,
        kv_type_k=chosen.kv_type_k,
        kv_type_v=chosen.kv_type_v,
        keep_alive_s=0.0,
    )


# -- KV types on the user's own text --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KvTest:
    """KV types compared on a text, and the smallest that is good enough."""

    n_tokens: int
    comparisons: tuple[KvComparison, ...]
    recommended: str


def compare_kv_types(
    config: ModelConfig, text: str, n_tokens: int, kv_types: Sequence[str] = ("q8_0", "q4_0")
) -> KvTest:
    """Compare next-token distributions under KV types with those under f16, on a text.

    Raises:
        ModelError: the model cannot be loaded.
        ModelRefused: the text is too short to tell anything, or a type does not work.
    """
    from dataclasses import replace

    from models.host import open_engine

    model = read_model(resolve(config.path))
    odd = {model.head_dim_k, model.head_dim_v} - {d for d in range(0, 1 << 12, 32)}
    if odd:
        raise ModelRefused(f"{model.name}: heads of {odd.pop()} numbers work with f16 only")
    own = replace(config, kv_type_k="q8_0", kv_type_v="q8_0", keep_alive_s=0.0)
    most = min(n_tokens, MOST_TEST_TOKENS, model.context_length)
    with open_engine(replace(own, context_length=0 if most < 512 else max(most, 512))) as engine:
        tokens = engine.tokenize([Segment(text, False)])[0][:most]
        if len(tokens) < LEAST_TEST_TOKENS:
            raise ModelRefused(
                f"the text has {len(tokens)} tokens: {LEAST_TEST_TOKENS} at least tell something"
            )
        found = engine.compare_kv(tokens, kv_types)
    return KvTest(len(tokens), tuple(found), recommend(found))
