"""Does the torch engine write llama.cpp's text? Greedy answers token by token, and their logits.

    python -m docqa.bench.torch_greedy TEXT [--model GGUF] [--n 200] [--answer 256] [--processes 16]
    python -m docqa.bench.torch_greedy TEXT --dry         # 2 prompts of 16 tokens

llama.cpp answers prompts cut out of TEXT, on a CPU, one thread a process. The torch engine reads
each prompt with that answer and says what it would have chosen at every place: the first difference
is where its own text would have left llama.cpp's, and is explained by a near-tie of its two best.

- `reading`: the plain decoder in float32, beside the model as it is and beside the same weights as
  F32, where llama.cpp rounds no activations.
- `llama.cpp's arithmetic`: the same decoder with each operation computed by ggml, so that nothing
  is rounded otherwise (`docqa.bench.llama_arithmetic`). What differs there would be wrong.
- `llama.cpp`: itself, the prompt read 32 tokens at a time. Of some processes' first prompt, as
  are `operations`: how far each of torch's is from ggml's on the same inputs.
- `engine`, with --gpu: the fused step behind a prefill, as questions are answered on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docqa.bench.torch_model import load_model

NEAR_TIE = 0.05
N_PROMPT = 256
AT_ONCE = 16  # prompts that F32 weights, which are many bytes to read, answer side by side
ROWS = 8  # of logits at a time, which a core's cache holds
CLOSER = 4  # processes that look closer at their first prompt; the last, which have fewer prompts
AS_IT_IS, FLOATS = "as it is", "F32"
READING, ARITHMETIC, ITSELF = "reading", "llama.cpp's arithmetic", "llama.cpp"
ENGINE, OPERATIONS = "engine", "operations"
SHOWN = (
    (FLOATS, READING),
    (AS_IT_IS, READING),
    (AS_IT_IS, ARITHMETIC),
    (AS_IT_IS, ITSELF),
    (AS_IT_IS, ENGINE),
)


def main() -> None:
    """Run the comparison, or one process's share of it."""
    parser = argparse.ArgumentParser(prog="docqa.bench.torch_greedy", description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--n", type=int, default=200, help="prompts")
    parser.add_argument("--prompt", type=int, default=N_PROMPT, help="tokens, 512 at most")
    parser.add_argument("--answer", type=int, default=256, help="tokens")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--gpu", action="store_true", help="the torch engine's as on a GPU")
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--out", type=Path, help="append JSON lines here")
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.dry:
        arguments.n, arguments.prompt, arguments.answer = 2, 16, 16
    if arguments.share is not None:
        answer_share(arguments)
        return
    from models.catalog import resolve

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        as_float(resolve(arguments.model), folder / "f32.gguf")
        command = [sys.executable, "-m", "docqa.bench.torch_greedy", *sys.argv[1:]]
        command += ["--folder", str(folder)]
        # One thread each, for all that counts them when it is loaded.
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if not arguments.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        shares = [
            subprocess.Popen([*command, "--share", str(i)], env=environment)
            for i in range(arguments.processes)
        ]
        if any([share.wait() for share in shares]):
            raise SystemExit("a process failed")
        report(arguments, folder)


def answer_share(arguments: argparse.Namespace) -> None:
    """Compare every `processes`-th prompt and write what was found, a line each."""
    from docqa.bench.llama_greedy import LlamaGreedy
    from models.catalog import resolve

    path, size = Path(resolve(arguments.model)), (arguments.prompt, arguments.answer)
    as_it_is = LlamaGreedy(path, *size)
    floats = LlamaGreedy(arguments.folder / "f32.gguf", *size, at_once=AT_ONCE)
    ours = Ours(path, arguments)
    text = arguments.text.read_text(encoding="utf-8", errors="replace")
    prompts = as_it_is.windows(text, arguments.n, arguments.prompt)
    mine = prompts[arguments.share :: arguments.processes]
    looks_closer = arguments.share >= arguments.processes - CLOSER
    with (arguments.folder / f"{arguments.share}.jsonl").open("w", encoding="utf-8") as file:

        def write(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        for at in range(0, len(mine), AT_ONCE):
            group = mine[at : at + AT_ONCE]
            for i, (ids, floated) in enumerate(zip(group, floats.answers(group), strict=True), at):
                given = {AS_IT_IS: as_it_is.answers([ids])[0], FLOATS: floated}
                for row in ours.compare(ids, given, looks_closer and i == 0):
                    write(row)
                if looks_closer and i == 0:
                    tokens, logits = given[AS_IT_IS]
                    again = as_it_is.otherwise(ids, tokens)
                    row = compared(again, logits, tokens)
                    write({"weights": AS_IT_IS, "by": ITSELF, **row})
    floats.close()
    as_it_is.close()


class Ours:
    """The torch engine's ways to read an answer."""

    def __init__(self, path: Path, arguments: argparse.Namespace) -> None:
        import torch

        from docqa.bench.llama_arithmetic import LlamaArithmetic
        from models.kv_cache import KvCache, KvFormat, PagePool
        from models.torch_context import fused_step, pool_pages

        length = arguments.prompt + arguments.answer
        self.device = torch.device("cuda" if arguments.gpu else "cpu")
        if not arguments.gpu:
            torch.set_num_threads(1)
        model = load_model(path, self.device)
        shape = model.shape
        self.plain = model.decoder(length, compute_dtype=torch.float32)
        self.fast = model.decoder(length)
        pool = PagePool(pool_pages(shape, length, 1), shape.head_dim, KvFormat(16, 16), self.device)
        self.cache = KvCache(pool, shape)
        self.step = fused_step(self.fast, self.cache, length)
        self.arithmetic = None
        if not arguments.gpu:
            try:
                self.arithmetic = LlamaArithmetic(model, length)
            except ValueError as error:
                print(f"not on llama.cpp's arithmetic: {error}", file=sys.stderr)

    def compare(
        self, ids: list[int], given: dict[str, Any], looks_closer: bool
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of one prompt; `given`: llama.cpp's answers by weights."""
        for weights, logits in self._read(ids, {w: tokens for w, (tokens, _) in given.items()}):
            tokens, theirs = given[weights]
            yield {"weights": weights, "by": READING, **compared(logits, theirs, tokens)}
        tokens, theirs = given[AS_IT_IS]
        if self.step is not None:
            row = compared(self._stepped(ids, tokens), theirs, tokens)
            yield {"weights": AS_IT_IS, "by": ENGINE, **row}
        if self.arithmetic is not None:
            watch = self.arithmetic.watch
            watch.n_pieces = 2 if looks_closer else 0
            row = compared(self.arithmetic.read(ids, tokens, self.cache), theirs, tokens)
            yield {"weights": AS_IT_IS, "by": ARITHMETIC, **row}
            if looks_closer:
                yield {"weights": AS_IT_IS, "by": OPERATIONS, "sums": watch.sums}

    def _read(self, ids: list[int], answers: dict[str, list[int]]) -> Iterator[tuple[str, Any]]:
        """Yield the plain decoder's logits of each answer; the prompt is read once."""
        import torch

        self.cache.clear()
        prompt = self.plain.compute(torch.tensor(ids), self.cache)
        self.cache.append(prompt.k, prompt.v)
        for weights, answer in answers.items():
            chunk = self.plain.compute(torch.tensor(answer[:-1]), self.cache)
            hidden = torch.cat((prompt.hidden[-1:], chunk.hidden))
            yield weights, self.plain.logits(hidden).cpu()

    def _stepped(self, ids: list[int], answer: list[int]) -> Any:
        """Return the logits of the prefill and of the fused step."""
        import torch

        assert self.step is not None
        self.cache.clear()
        chunk = self.fast.compute(torch.tensor(ids), self.cache)
        self.cache.append(chunk.k, chunk.v)
        found = [self.fast.logits(chunk.hidden[-1:])[0]]
        found += [self.step.run(token, self.cache).clone() for token in answer[:-1]]
        return torch.stack(found).cpu()


def compared(ours: Any, theirs: Any, chosen: list[int]) -> dict[str, Any]:
    """Return the first difference of what is chosen, how near a tie it is, and the divergence."""
    import torch

    parts = [_divergence(*part) for part in zip(ours.split(ROWS), theirs.split(ROWS), strict=True)]
    each = torch.cat([divergence for divergence, _ in parts])
    wrong = (ours.argmax(-1) != torch.tensor(chosen)).nonzero()
    row: dict[str, Any] = {
        "kl": float(each.mean()),
        "kl_most": float(each.max()),
        "moved": sum(moved for _, moved in parts) / theirs.numel(),
    }
    if len(wrong):
        at = int(wrong[0])
        for name, logits in (("gap", ours), ("their_gap", theirs)):
            best = logits[at].topk(2).values
            row[name] = float(best[0] - best[1])
        row["at"] = at
    return row


def _divergence(ours: Any, theirs: Any) -> tuple[Any, float]:
    """Return KL (T,) of some tokens, and the sum of what logits (T, n_vocab) are apart."""
    import torch

    # KL = sum p (x - y) - (log sum e^x - log sum e^y), which needs no table of doubles.
    apart = theirs - ours
    logs, shares = [], []
    for logits in (theirs, ours):
        top = logits.amax(-1, keepdim=True)
        shares.append((logits - top).exp_())
        logs.append(top[:, 0].double() + shares[-1].sum(-1, dtype=torch.float64).log())
    total = shares[0].sum(-1, dtype=torch.float64)
    mean = shares[0].mul_(apart).sum(-1, dtype=torch.float64) / total
    return (mean - (logs[0] - logs[1])).clamp(min=0), float(apart.abs_().sum())


def report(arguments: argparse.Namespace, folder: Path) -> None:
    """Print what all processes found."""
    rows = [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    shown = []
    for weights, by in SHOWN:
        mine = [row for row in rows if (row["weights"], row["by"]) == (weights, by)]
        if mine:
            shown.append(figures(f"greedy {weights} {by}", mine, arguments.answer))
    operations = [row["sums"] for row in rows if row["by"] == OPERATIONS]
    if operations:
        shown.append({"what": OPERATIONS, "prompts": len(operations), **apart(operations)})
    for each in shown:
        print(json.dumps(each), flush=True)
        if arguments.out:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(each) + "\n")


def figures(what: str, rows: list[dict[str, Any]], n_tokens: int) -> dict[str, Any]:
    """Return the line of one way to compute one model's answers."""
    apart = [row for row in rows if "at" in row]
    # A tie is near in either's logits: each rounds its own way.
    gaps = sorted(min(row["gap"], row["their_gap"]) for row in apart)
    return {
        "what": what,
        "prompts": len(rows),
        "tokens": n_tokens,
        "same": len(rows) - len(apart),
        "near_ties": sum(gap < NEAR_TIE for gap in gaps),
        "largest_gap": gaps[-1] if gaps else 0.0,
        "gaps": [round(gap, 3) for gap in gaps],
        "kl": statistics.fmean(row["kl"] for row in rows),
        "kl_most": max(row["kl_most"] for row in rows),
        "logit_moved": statistics.fmean(row["moved"] for row in rows),
    }


def apart(sums: list[dict[str, list[float]]]) -> dict[str, float]:
    """Return, for each operation, the root of its squared differences over its squared results."""
    found = {}
    for name in sums[0]:
        different, whole = (sum(each[name][i] for each in sums) for i in (0, 1))
        found[name] = (different / whole) ** 0.5
    return found


def as_float(source: Path, target: Path) -> Path:
    """Write a model again with its weights as F32."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name in ("general.architecture", "general.file_type") or "." not in field.name:
            continue
        if field.name.startswith("GGUF."):
            continue
        kinds = field.types
        sub = kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kinds[0], sub_type=sub)
    for tensor in reader.tensors:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


if __name__ == "__main__":
    main()
