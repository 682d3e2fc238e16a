"""Does the torch engine write llama.cpp's text? Greedy answers token by token, and their logits.

    python -m docqa.bench.torch_greedy TEXT [--model GGUF] [--n 200] [--answer 256] [--processes 4]
    python -m docqa.bench.torch_greedy TEXT --dry         # 2 prompts of 16 tokens

llama.cpp answers prompts cut out of TEXT. The torch engine reads each prompt with that answer and
says what it would have chosen at every place: the first difference is where its own text would have
left llama.cpp's, and is explained by a near-tie of its two best. `reading` is the plain decoder in
float32; `engine` the fused step behind a prefill, as questions are answered on a GPU (there only).
Both with the model's weights, `reading` also with the same weights as F32, where llama.cpp rounds
no activations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from docqa.bench.torch_model import load_model

NEAR_TIE = 0.05
N_PROMPT = 256


def main() -> None:
    """Run the comparison, or one process's share of it."""
    parser = argparse.ArgumentParser(prog="docqa.bench.torch_greedy", description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--n", type=int, default=200, help="prompts")
    parser.add_argument("--prompt", type=int, default=N_PROMPT, help="tokens")
    parser.add_argument("--answer", type=int, default=256, help="tokens")
    parser.add_argument("--processes", type=int, default=1)
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
        shares = [
            subprocess.Popen([*command, "--share", str(i)]) for i in range(arguments.processes)
        ]
        if any([share.wait() for share in shares]):
            raise SystemExit("a process failed")
        report(arguments, folder)


def answer_share(arguments: argparse.Namespace) -> None:
    """Compare every `processes`-th prompt and write what was found, a line a prompt."""
    from models.catalog import resolve

    paths = {"as it is": resolve(arguments.model), "F32": arguments.folder / "f32.gguf"}
    with (arguments.folder / f"{arguments.share}.jsonl").open("w", encoding="utf-8") as file:
        pairs = {
            weights: Pair(Path(path), arguments, has_step=weights == "as it is")
            for weights, path in paths.items()
        }
        for ids in pairs["F32"].prompts()[arguments.share :: arguments.processes]:
            for weights, pair in pairs.items():
                for row in pair.compare(ids):
                    file.write(json.dumps({"weights": weights, **row}) + "\n")
                    file.flush()
        for pair in pairs.values():
            pair.close()


class Pair:
    """One model in llama.cpp and in torch."""

    def __init__(self, path: Path, arguments: argparse.Namespace, *, has_step: bool) -> None:
        import torch

        from models.kv_cache import KvCache, KvFormat, PagePool
        from models.llama_context import LlamaContext, LogTail
        from models.settings import LoadSettings
        from models.torch_context import fused_step, pool_pages

        self.arguments = arguments
        length = arguments.prompt + arguments.answer
        settings = LoadSettings(
            path=str(path),
            context_length=length + 64,
            kv_type_k="f16",
            kv_type_v="f16",
            n_sequences=1,
        )
        self.llama = LlamaContext(settings, LogTail())
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        model = load_model(path, self.device)
        shape = model.shape
        self.exact = model.decoder(length, compute_dtype=torch.float32)
        self.fast = model.decoder(length)
        pool = PagePool(pool_pages(shape, length, 1), shape.head_dim, KvFormat(16, 16), self.device)
        self.cache = KvCache(pool, shape)
        self.step = fused_step(self.fast, self.cache, length) if has_step else None

    def close(self) -> None:
        """Free llama.cpp's memory."""
        self.llama.close()

    def prompts(self) -> list[list[int]]:
        """Return windows of the text."""
        text = self.arguments.text.read_text(encoding="utf-8", errors="replace")
        ids = self.llama.tokenize(text[:1_000_000].encode(), False)
        size = self.arguments.prompt
        step = (len(ids) - size) // self.arguments.n
        return [ids[i * step : i * step + size] for i in range(self.arguments.n)]

    def compare(self, ids: list[int]) -> list[dict[str, Any]]:
        """Return the rows of one prompt."""
        theirs, logits = self._answer(ids)
        rows = [{"by": "reading", **compared(self._read(ids, theirs), logits, theirs)}]
        if self.step is not None:
            rows.append({"by": "engine", **compared(self._stepped(ids, theirs), logits, theirs)})
        return rows

    def _answer(self, ids: list[int]) -> tuple[list[int], Any]:
        """Return llama.cpp's greedy answer and its logits (answer, n_vocab)."""
        import numpy as np
        import torch

        self.llama.remove(0, 0)
        self.llama.decode(ids, 0, 0)
        found: list[int] = []
        every = []
        for at in range(len(ids), len(ids) + self.arguments.answer):
            every.append(torch.from_numpy(np.array(self.llama.logits(), np.float32)))
            found.append(int(every[-1].argmax()))
            self.llama.decode([found[-1]], at, 0)
        return found, torch.stack(every).to(self.device)

    def _read(self, ids: list[int], theirs: list[int]) -> Any:
        """Return the plain decoder's logits at the same places."""
        import torch

        self.cache.clear()
        chunk = self.exact.compute(torch.tensor(ids + theirs[:-1]), self.cache)
        return self.exact.logits(chunk.hidden[len(ids) - 1 :])

    def _stepped(self, ids: list[int], theirs: list[int]) -> Any:
        """Return the logits of the prefill and of the fused step."""
        import torch

        assert self.step is not None
        self.cache.clear()
        chunk = self.fast.compute(torch.tensor(ids), self.cache)
        self.cache.append(chunk.k, chunk.v)
        found = [self.fast.logits(chunk.hidden[-1:])[0]]
        found += [self.step.run(token, self.cache).clone() for token in theirs[:-1]]
        return torch.stack(found)


def compared(ours: Any, theirs: Any, chosen: list[int]) -> dict[str, Any]:
    """Return the first difference of what is chosen, how near a tie it is, and the divergence."""
    import torch

    expected = theirs.log_softmax(-1).double()
    each = (expected.exp() * (expected - ours.log_softmax(-1).double())).sum(-1)
    wrong = (ours.argmax(-1) != torch.tensor(chosen, device=ours.device)).nonzero()
    row: dict[str, Any] = {
        "kl": float(each.mean()),
        "kl_most": float(each.max()),
        "moved": float((ours - theirs).abs().mean()),
    }
    if len(wrong):
        at = int(wrong[0])
        for name, logits in (("gap", ours), ("their_gap", theirs)):
            top = logits[at].topk(2).values
            row[name] = float(top[0] - top[1])
        row["at"] = at
    return row


def report(arguments: argparse.Namespace, folder: Path) -> None:
    """Print what all processes found."""
    rows = [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    for weights, by in (("F32", "reading"), ("as it is", "reading"), ("as it is", "engine")):
        mine = [row for row in rows if (row["weights"], row["by"]) == (weights, by)]
        if not mine:
            continue
        apart = [row for row in mine if "at" in row]
        # A tie is near in either's logits: each rounds its own way.
        gaps = sorted(min(row["gap"], row["their_gap"]) for row in apart)
        figures = {
            "what": f"greedy {weights} {by}",
            "prompts": len(mine),
            "tokens": arguments.answer,
            "same": len(mine) - len(apart),
            "near_ties": sum(gap < NEAR_TIE for gap in gaps),
            "largest_gap": gaps[-1] if gaps else 0.0,
            "gaps": [round(gap, 3) for gap in gaps],
            "kl": statistics.fmean(row["kl"] for row in mine),
            "kl_most": max(row["kl_most"] for row in mine),
            "logit_moved": statistics.fmean(row["moved"] for row in mine),
        }
        print(json.dumps(figures), flush=True)
        if arguments.out:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")


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
