"""What sessions cost: tokens by layer of the prompt, reused, computed and written; seconds; KV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from docqa.answer_json import rate
from docqa.types import Answer

SCHEMA = "docqa.stats/1"
LAYERS = ("template", "system", "pinned", "history", "evidence", "question")


@dataclass(slots=True)
class Stats:
    """Sums over questions. `kv_disk_bytes`: of the saved KV as it is now."""

    name: str
    n_questions: int = 0
    n_found: int = 0
    n_asked_model: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    prefilled_tokens: int = 0
    generated_tokens: int = 0
    restored_tokens: int = 0
    retrieve_s: float = 0.0
    rerank_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    choose_s: float = 0.0
    kv_bytes: int = 0  # the most that one conversation took
    kv_disk_bytes: int = 0
    layer_tokens: dict[str, int] = field(default_factory=dict)

    def add(self, answer: Answer) -> None:
        """Count one question."""
        usage = answer.usage
        self.n_questions += 1
        self.n_found += answer.found
        self.n_asked_model += usage.prompt_tokens > 0
        self.prompt_tokens += usage.prompt_tokens
        self.reused_tokens += usage.reused_tokens
        self.prefilled_tokens += usage.prefilled_tokens
        self.generated_tokens += usage.generated_tokens
        self.restored_tokens += usage.restored_tokens
        self.retrieve_s += usage.retrieve_s
        self.rerank_s += usage.rerank_s
        self.prefill_s += usage.prefill_s
        self.decode_s += usage.decode_s
        self.choose_s += usage.choose_s
        self.kv_bytes = max(self.kv_bytes, usage.kv_bytes)
        for layer, n in usage.layer_tokens.items():
            self.layer_tokens[layer] = self.layer_tokens.get(layer, 0) + n

    @property
    def reused_share(self) -> float | None:
        """Share of all prompt tokens that did not have to be computed."""
        return self.reused_tokens / self.prompt_tokens if self.prompt_tokens else None


def stats_of(name: str, answers: Iterable[Answer], kv_disk_bytes: int = 0) -> Stats:
    """Return the sums over `answers`."""
    stats = Stats(name, kv_disk_bytes=kv_disk_bytes)
    for answer in answers:
        stats.add(answer)
    return stats


def stats_json(stats: Stats) -> dict[str, Any]:
    """Return the `docqa.stats/1` object."""
    share = stats.reused_share
    return {
        "schema": SCHEMA,
        "session": stats.name,
        "questions": stats.n_questions,
        "found": stats.n_found,
        "asked_model": stats.n_asked_model,
        "prompt_tokens": stats.prompt_tokens,
        "reused_tokens": stats.reused_tokens,
        "reused_share": None if share is None else round(share, 4),
        "prefilled_tokens": stats.prefilled_tokens,
        "generated_tokens": stats.generated_tokens,
        "restored_tokens": stats.restored_tokens,
        "layer_tokens": _in_order(stats.layer_tokens),
        "retrieve_s": round(stats.retrieve_s, 4),
        "rerank_s": round(stats.rerank_s, 4),
        "prefill_s": round(stats.prefill_s, 4),
        "decode_s": round(stats.decode_s, 4),
        "choose_s": round(stats.choose_s, 4),
        "prefill_tokens_s": rate(stats.prefilled_tokens, stats.prefill_s),
        "decode_tokens_s": rate(stats.generated_tokens, stats.decode_s),
        "kv_bytes": stats.kv_bytes,
        "kv_disk_bytes": stats.kv_disk_bytes,
    }


def stats_text(stats: Sequence[Stats]) -> str:
    """Return a block of lines a session."""
    return "\n\n".join(_block(one) for one in stats)


def _block(stats: Stats) -> str:
    layers = _in_order(stats.layer_tokens)
    share = stats.reused_share
    reused = "" if share is None else f" ({share:.0%})"
    rates = [
        f"{name} {value:.1f} tok/s"
        for name, value in (
            ("prefill", rate(stats.prefilled_tokens, stats.prefill_s)),
            ("decode", rate(stats.generated_tokens, stats.decode_s)),
        )
        if value is not None
    ]
    lines = [
        stats.name,
        f"  questions  {stats.n_questions}, {stats.n_found} answered, "
        f"{stats.n_asked_model} by the model",
        f"  prompt     {stats.prompt_tokens:,} tokens"
        + (f": {', '.join(f'{name} {n:,}' for name, n in layers.items())}" if layers else ""),
        f"  reused     {stats.reused_tokens:,}{reused}, computed {stats.prefilled_tokens:,}, "
        f"written {stats.generated_tokens:,}",
        f"  seconds    retrieve {stats.retrieve_s:.2f}, rerank {stats.rerank_s:.2f}, prefill "
        f"{stats.prefill_s:.2f}, decode {stats.decode_s:.2f}, choose {stats.choose_s:.2f}"
        + (f" ({', '.join(rates)})" if rates else ""),
        f"  KV         {stats.kv_bytes / 1e6:.1f} MB in the engine at most, "
        f"{stats.kv_disk_bytes / 1e6:.1f} MB on disk",
    ]
    return "\n".join(lines)


def _in_order(layers: dict[str, int]) -> dict[str, int]:
    known = [name for name in LAYERS if name in layers]
    return {name: layers[name] for name in (*known, *(n for n in layers if n not in LAYERS))}
