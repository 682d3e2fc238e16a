"""What a stretched context and an endless chat do to a model's predictions of a long text.

    python -m docqa.bench.long_context rope --text book.txt --context 32768 --plot rope.svg
    python -m docqa.bench.long_context sinks --text book.txt --tokens 100000 --window 2048
    python -m docqa.bench.long_context plot --json rope.json --plot rope.svg

- rope: perplexity by position under none, linear, ntk and yarn, each over the same text in one
  context of `--context` tokens. plot: the plot of a run whose last line was kept.
- sinks: the text streamed through a window. `sinks`: the first tokens and the recent ones are kept,
  the middle is dropped and the rest moved down (Xiao et al. 2023, arXiv:2309.17453); `window`: the
  same without the first tokens; `computed`: at every `--every`th position the same kept tokens
  computed afresh. Not for reading a book: what is dropped is gone.

Runs on whatever the build of llama.cpp has; the default model's 32,768 tokens take minutes on a GPU
and the better part of an hour on two CPU cores. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from docqa.bench.line_plot import line_plot
from docqa.config import ModelConfig
from models.catalog import resolve
from models.model_file import ModelFile, read_model
from models.rope import plan_rope
from models.settings import LoadSettings, RopeSettings

METHODS = ("none", "linear", "ntk", "yarn")
CHUNK = 64
BATCH = 2048
TOLD_CHUNKS = 160  # between figures so far

Losses = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    if options.what == "plot":
        options.plot.write_text(_plotted(json.loads(options.json.read_text())), "utf-8")
        return
    if options.text is None:
        sys.exit("--text FILE: a long text is needed")
    model = read_model(resolve(options.model))
    found = _rope(options, model) if options.what == "rope" else _sinks(options, model)
    print(json.dumps({"model": model.path.name, **found}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="docqa.bench.long_context", description=__doc__)
    parser.add_argument("what", choices=("rope", "sinks", "plot"))
    parser.add_argument("--model", default=ModelConfig().path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--json", type=Path, help="of plot: the last line of a run of rope")
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=32768)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--buckets", type=int, default=16)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--n-sinks", type=int, default=4)
    parser.add_argument("--every", type=int, default=64)
    return parser


class Stream:
    """A context whose predictions of given tokens are scored."""

    def __init__(
        self,
        options: argparse.Namespace,
        model: ModelFile,
        n_context: int,
        rope: RopeSettings | None = None,
    ) -> None:
        from models.llama_context import LlamaContext, LogTail

        settings = LoadSettings(
            path=str(model.path),
            context_length=n_context,
            kv_type_k=options.kv_type,
            kv_type_v=options.kv_type,
            n_threads=options.threads,
            n_batch=BATCH,
            n_ubatch=BATCH,
            n_sequences=1,
            rope=rope or RopeSettings(),
        )
        self.context = LlamaContext(settings, LogTail(), n_outputs=CHUNK)
        self.n = 0  # tokens in the context

    def tokenize(self, path: Path, n: int) -> list[int]:
        """Return the first `n` tokens of a file."""
        text = path.read_bytes()[: 8 * n]
        tokens = self.context.tokenize(text.decode("utf-8", "ignore").encode(), False)
        if len(tokens) < n:
            sys.exit(f"{path}: {len(tokens)} tokens, {n} are needed: take a longer text")
        return tokens[:n]

    def losses(self, tokens: Sequence[int], following: Sequence[int]) -> Losses:
        """Append `tokens` and return −log p of each token of `following`, one behind."""
        code = self.context.decode(tokens, self.n, 0, all_logits=True)
        assert code == 0, f"llama_decode returned {code}"
        self.n += len(tokens)
        logits = self.context.all_logits(len(tokens))
        logits = logits - logits.max(axis=1, keepdims=True)
        norms = np.log(np.exp(logits).sum(axis=1, dtype=np.float64))
        chosen = logits[np.arange(len(following)), list(following)]
        result: Losses = norms[: len(following)] - chosen
        return result

    def fill(self, tokens: Sequence[int]) -> None:
        """Start anew with `tokens`."""
        self.context.remove(0, -1)
        for start in range(0, len(tokens), BATCH):
            assert self.context.decode(tokens[start : start + BATCH], start, 0, logits=False) == 0
        self.n = len(tokens)

    def drop(self, start: int, n: int) -> None:
        """Forget `n` tokens from `start` on and move the rest down."""
        assert self.context.can_shift, "this model, or YaRN, cannot be shifted"
        assert self.context.remove(0, start, start + n)
        self.context.shift(0, start + n, -1, -n)
        self.n -= n


def perplexity(losses: Losses) -> float:
    """Return exp of the mean loss."""
    return math.exp(float(losses.mean()))


# -- rope -----------------------------------------------------------------------------------------


def _rope(options: argparse.Namespace, model: ModelFile) -> dict[str, Any]:
    edges = np.linspace(0, options.context, options.buckets + 1).astype(int)
    rows: dict[str, list[float]] = {}
    found: dict[str, Any] = {}
    for method in options.methods:
        plan = plan_rope(model, options.context, method, force=True)
        stream = Stream(options, model, options.context, plan.settings)
        tokens = stream.tokenize(options.text, options.context)
        losses = [
            stream.losses(tokens[at : at + CHUNK], tokens[at + 1 : at + CHUNK + 1])
            for at in range(0, len(tokens), CHUNK)
        ]
        stream.context.close()
        every = np.concatenate(losses)
        rows[method] = [
            perplexity(every[a:b])
            for a, b in zip(edges, np.minimum(edges[1:], len(every)), strict=False)
        ]
        shown = " ".join(f"{p:8.2f}" for p in rows[method])
        print(f"{method:7} {plan.stretch:.2f}x  {shown}", flush=True)
        found = {
            "model": model.path.name,
            "context": options.context,
            "trained": model.context_length,
            "perplexity": rows,
        }
        print(json.dumps(found), flush=True)  # so far: the last line is all of them
    if options.plot:
        options.plot.write_text(_plotted(found), "utf-8")
    return found


def _plotted(found: dict[str, Any]) -> str:
    """Return the plot of a run of `rope` as SVG."""
    rows: dict[str, list[float]] = found["perplexity"]
    n = len(next(iter(rows.values())))
    stretch = found["context"] / found["trained"]
    return line_plot(
        [found["context"] * (i + 0.5) / n for i in range(n)],
        rows,
        title=f"{found['model']}: a context of {found['context']:,} tokens ({stretch:.2g}x)",
        x_label="position in tokens",
        y_label="perplexity",
        mark=found["trained"],
        mark_label="trained length",
    )


# -- sinks ----------------------------------------------------------------------------------------


def _sinks(options: argparse.Namespace, model: ModelFile) -> dict[str, Any]:
    n_context = options.n_sinks + options.window + CHUNK
    streams = {name: Stream(options, model, n_context) for name in ("sinks", "window", "computed")}
    tokens = streams["sinks"].tokenize(options.text, options.tokens)
    found: dict[str, list[Losses]] = {name: [] for name in streams}
    kept = 0  # the first position of the window of `sinks`
    window_kept = 0  # and of `window`
    for at in range(0, len(tokens) - CHUNK, CHUNK):
        chunk, following = tokens[at : at + CHUNK], tokens[at + 1 : at + CHUNK + 1]
        kept += _make_room(streams["sinks"], options.n_sinks, options.window, n_context)
        window_kept += _make_room(streams["window"], 0, options.window, n_context)
        for name in ("sinks", "window"):
            found[name].append(streams[name].losses(chunk, following))
        if kept and at // CHUNK % max(options.every // CHUNK, 1) == 0:
            seen = tokens[: options.n_sinks] + tokens[options.n_sinks + kept : at]
            streams["computed"].fill(seen)
            loss = streams["computed"].losses(chunk[:1], following[:1])
            found["computed"].append(np.array([loss[0], found["sinks"][-1][0]]))
        if at // CHUNK % TOLD_CHUNKS == TOLD_CHUNKS - 1:
            row = _sinks_row(options, found)  # what there is, should it be stopped
            print(json.dumps({"model": model.path.name, **row}), flush=True)
    for stream in streams.values():
        stream.context.close()
    row = _sinks_row(options, found)
    print("  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    return row


def _sinks_row(options: argparse.Namespace, found: dict[str, list[Losses]]) -> dict[str, float]:
    pairs = np.array(found["computed"]) if found["computed"] else np.full((1, 2), np.nan)
    row = {
        "tokens": CHUNK * len(found["sinks"]),
        "window": options.window,
        "n_sinks": options.n_sinks,
        "perplexity_sinks": perplexity(np.concatenate(found["sinks"])),
        "perplexity_window": perplexity(np.concatenate(found["window"])),
        "at_the_same_positions": len(pairs),
        "perplexity_computed": perplexity(pairs[:, 0]),
        "perplexity_streamed": perplexity(pairs[:, 1]),
    }
    return row | {"streamed_over_computed": row["perplexity_streamed"] / row["perplexity_computed"]}


def _make_room(stream: Stream, n_sinks: int, window: int, n_context: int) -> int:
    """Drop a quarter of the window where the next chunk would not fit; return how many tokens."""
    if stream.n + CHUNK <= n_context:
        return 0
    n = max(window // 4, CHUNK)
    stream.drop(n_sinks, n)
    return n


if __name__ == "__main__":
    main()
