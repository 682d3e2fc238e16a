"""A BERT sentence encoder from its safetensors: as an ONNX Runtime session, and in torch.

The ONNX graph is small (embeddings, 6 fused layers for MiniLM, mean or CLS pooling, unit length)
and is written here in ONNX's own wire format; the weights are handed to the session next to it. So
there is no export step, no file to keep in step with the weights, and neither torch nor the `onnx`
package is loaded: from nothing to the first vector takes about half a second.

The fused operators are ONNX Runtime's contrib operators for BERT (domain com.microsoft; their
contract: docs/ContribOperators.md of ONNX Runtime). `tests/models/test_embedder.py` holds the
graph to sentence-transformers' vectors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from docqa.process_memory import give_back_free_pages

Weights = Mapping[str, npt.NDArray[Any]]
Ids = npt.NDArray[np.int32]

FLOAT, INT32 = 1, 6  # TensorProto.DataType
WORD = "word"  # the table of word vectors, read row by row
POOL = ("B", 1, "T")
Value = tuple[str, int, Iterable[int | str]]
"""An input or output of a graph: name, TensorProto.DataType, sizes (a name: any)."""
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes of a BERT encoder, from its config.json."""

    n_layers: int
    n_heads: int
    hidden: int
    n_positions: int
    epsilon: float

    @classmethod
    def read(cls, folder: Path) -> BertShape | None:
        """Return the shape, or None where the folder holds another architecture."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        is_plain_bert = (
            config.get("model_type") == "bert"
            and config.get("hidden_act") == "gelu"
            and config.get("position_embedding_type", "absolute") == "absolute"
        )
        if not is_plain_bert:
            return None
        return cls(
            n_layers=int(config["num_hidden_layers"]),
            n_heads=int(config["num_attention_heads"]),
            hidden=int(config["hidden_size"]),
            n_positions=int(config["max_position_embeddings"]),
            epsilon=float(config["layer_norm_eps"]),
        )


class BertSession:
    """An ONNX Runtime session on the CPU. The word table stays where it is, an input of every run.

    As a weight it would be copied: 47 MB for MiniLM, for each session. So it stays mapped from its
    file, of which only the rows of words that occur are ever read.
    """

    def __init__(self, graph: bytes, weights: Weights, n_threads: int) -> None:
        """Take a ModelProto by `model` and its weights; they are copied, but for `word`."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # a plan for each shape of batch, and hardly two alike
        # Threads that spin between operators gain little here and take a core from the parser.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._table = weights[WORD]
        names = [name for name in weights if name != WORD]
        values = [ort.OrtValue.ortvalue_from_numpy(weights[name]) for name in names]
        options.add_external_initializers(names, values)
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        del values
        give_back_free_pages()  # of what was copied and repacked: 100 MB

    def run(self, **inputs: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        """Return the outputs of the graph, in its order."""
        found: list[npt.NDArray[np.float32]] = self._session.run(
            None, {**inputs, WORD: self._table}
        )
        return found


def open_session(folder: Path, shape: BertShape, n_threads: int) -> BertSession:
    """Return a session: ids (B, T) int32, lengths (B,) int32, pool (B, 1, T) float32 -> (B, 1, D).

    Rows are padded on the right. `pool` weighs the tokens of a row: 1/length each for mean pooling.
    The output rows have unit length.
    """
    weights = fused_weights(read_weights(folder / "model.safetensors"), shape)
    return BertSession(_graph(shape, weights), weights, n_threads)


def open_torch(
    folder: Path, shape: BertShape, device: str
) -> Callable[[Ids, Ids, npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """Return the same encoder in torch: ids (B, T), lengths (B,), pool (B, T) -> (B, D) float32.

    fp16 weights and activations on a GPU, fp32 on a CPU; pooling and normalising in fp32.
    """
    import torch
    import torch.nn.functional as F

    dtype = torch.float32 if device == "cpu" else torch.float16
    raw = fused_weights(read_weights(folder / "model.safetensors"), shape)
    w = {name: torch.from_numpy(array).to(device, dtype) for name, array in raw.items()}
    size, epsilon = (shape.hidden,), shape.epsilon

    def encode(ids: Ids, lengths: Ids) -> torch.Tensor:
        """(B, T), (B,) -> (B, T, D)."""
        n_rows, width = ids.shape
        tokens = torch.from_numpy(ids).to(device)
        kept = torch.arange(width, device=device) < torch.from_numpy(lengths).to(device)[:, None]
        h = F.embedding(tokens, w["word"]) + w["position"][:width]
        h = F.layer_norm(h, size, w["norm.gamma"], w["norm.beta"], epsilon)
        for i in range(shape.n_layers):
            qkv = h @ w[f"{i}.qkv"] + w[f"{i}.qkv.bias"]
            q, k, v = qkv.view(n_rows, width, 3, shape.n_heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=kept[:, None, None])
            mixed = mixed.transpose(1, 2).reshape(n_rows, width, -1)
            h = h + mixed @ w[f"{i}.out"] + w[f"{i}.out.bias"]
            h = F.layer_norm(h, size, w[f"{i}.norm1.gamma"], w[f"{i}.norm1.beta"], epsilon)
            wide = F.gelu(h @ w[f"{i}.up"] + w[f"{i}.up.bias"])
            h = h + wide @ w[f"{i}.down"] + w[f"{i}.down.bias"]
            h = F.layer_norm(h, size, w[f"{i}.norm2.gamma"], w[f"{i}.norm2.beta"], epsilon)
        return h

    def run(ids: Ids, lengths: Ids, pool: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            pooled = torch.from_numpy(pool).to(device)[:, None] @ encode(ids, lengths).float()
            vectors: npt.NDArray[np.float32] = F.normalize(pooled[:, 0], dim=-1).cpu().numpy()
            return vectors

    return run


def read_weights(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the tensors as float32, without the prefix that some checkpoints carry.

    What is float32 in the file stays there: mapped.

    Raises:
        ValueError: the file is truncated or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="np") as tensors:  # checks every size and offset
            names = [
                name
                for name in tensors.keys()  # noqa: SIM118 (not a dict)
                if not name.endswith("position_ids") and "pooler" not in name
            ]
            mapped = _mapped_floats(file)
            return {
                name.removeprefix("bert."): mapped[name]
                if name in mapped
                else tensors.get_tensor(name).astype(np.float32)
                for name in names
            }
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _mapped_floats(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the float32 tensors of a safetensors file that was checked, without reading them."""
    with file.open("rb") as source:
        n_header = int.from_bytes(source.read(8), "little")
        header = json.loads(source.read(n_header))
    found = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        offset = 8 + n_header + entry["data_offsets"][0]
        # A mapping each: what is read once goes away with its array. Private, as torch wants
        # to be able to write.
        mapped = np.memmap(file, "<f4", "c", offset=offset, shape=tuple(entry["shape"]))
        if mapped.flags.aligned:
            found[name] = mapped.view(np.ndarray)
    return found


def fused_weights(raw: Weights, shape: BertShape) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights in the layout of the fused operators: (in, out), Q K V side by side."""
    embeddings = "embeddings."
    fused = {
        "word": raw[embeddings + "word_embeddings.weight"],
        # One segment only, so its embedding is a constant of every position.
        "position": raw[embeddings + "position_embeddings.weight"]
        + raw[embeddings + "token_type_embeddings.weight"][0],
        "norm.gamma": raw[embeddings + "LayerNorm.weight"],
        "norm.beta": raw[embeddings + "LayerNorm.bias"],
    }
    for i in range(shape.n_layers):
        layer = f"encoder.layer.{i}."
        query, key, value = (f"{layer}attention.self.{name}." for name in ("query", "key", "value"))
        fused[f"{i}.qkv"] = np.concatenate([raw[n + "weight"].T for n in (query, key, value)], 1)
        fused[f"{i}.qkv.bias"] = np.concatenate([raw[n + "bias"] for n in (query, key, value)])
        for ours, theirs in (
            (f"{i}.out", "attention.output.dense"),
            (f"{i}.up", "intermediate.dense"),
            (f"{i}.down", "output.dense"),
        ):
            fused[ours] = raw[f"{layer}{theirs}.weight"].T
            fused[f"{ours}.bias"] = raw[f"{layer}{theirs}.bias"]
        for ours, theirs in ((f"{i}.norm1", "attention.output"), (f"{i}.norm2", "output")):
            fused[f"{ours}.gamma"] = raw[f"{layer}{theirs}.LayerNorm.weight"]
            fused[f"{ours}.beta"] = raw[f"{layer}{theirs}.LayerNorm.bias"]
    check_shapes(fused, shape)
    return {name: np.ascontiguousarray(array) for name, array in fused.items()}


def check_shapes(fused: Weights, shape: BertShape) -> None:
    """Raise ValueError where config.json and the weights disagree: native code will not ask.

    Knows the tensors of `models.reader` too: a second token type and the heads.
    """
    hidden = shape.hidden
    if hidden % shape.n_heads:
        raise ValueError(f"{hidden} dimensions cannot be shared by {shape.n_heads} heads")
    for name, array in fused.items():
        kind = name.rpartition(".")[2]
        expected = {
            "qkv": (hidden, 3 * hidden),
            "out": (hidden, hidden),
            "up": (hidden, fused["0.up"].shape[1]),
            "down": (fused["0.up"].shape[1], hidden),
            "word": (len(array), hidden),
            "position": (shape.n_positions, hidden),
            "type": (2, hidden),
            "dense": (hidden, hidden),
            "score": (hidden, 1),
            "span": (hidden, 2),
            "bias": (fused[name.removesuffix(".bias")].shape[1],) if kind == "bias" else (),
        }.get(kind, (hidden,))
        if array.shape != expected:
            raise ValueError(f"tensor {name} has the shape {array.shape}, not {expected}")


def _graph(shape: BertShape, weights: Weights) -> bytes:
    """Return the ModelProto of the encoder with pooling and unit length."""
    last = f"h{shape.n_layers}"
    nodes = [
        *encoder_nodes(shape),
        node("MatMul", ["pool", last], ["pooled"], domain=""),
        node("LpNormalization", ["pooled"], ["vectors"], domain="", axis=-1, p=2),
    ]
    inputs = [("ids", INT32, ("B", "T")), ("lengths", INT32, ("B",)), ("pool", FLOAT, POOL)]
    return model(nodes, weights, inputs, [("vectors", FLOAT, ("B", 1, shape.hidden))])


def encoder_nodes(shape: BertShape, *, has_types: bool = False) -> list[bytes]:
    """Return the nodes from ids (B, T), lengths (B,) to h{n_layers} (B, T, H).

    With `has_types` the token types are an input, `types` (B, T), and `type` a weight.
    """
    types, table = ("types", "type") if has_types else ("", "")
    first = node(
        "EmbedLayerNormalization",
        ["ids", types, "word", "position", table, "norm.gamma", "norm.beta"],
        ["h0", "unused"],
        epsilon=shape.epsilon,
    )
    return [first] + [part for i in range(shape.n_layers) for part in _layer(i, shape)]


def model(
    nodes: Iterable[bytes], weights: Weights, inputs: Iterable[Value], outputs: Iterable[Value]
) -> bytes:
    """Return the ModelProto of a graph: opset 17 and com.microsoft 1.

    `word` is an input, all other weights are external.
    """
    graph = b"".join(_field(1, part) for part in nodes)
    graph += _field(2, b"bert")
    kept = {name: array for name, array in weights.items() if name != WORD}
    graph += b"".join(_field(5, _external(name, array)) for name, array in kept.items())
    tables = [(WORD, FLOAT, weights[WORD].shape)]
    graph += b"".join(_field(11, _value(*value)) for value in [*inputs, *tables])
    graph += b"".join(_field(12, _value(*value)) for value in outputs)
    opsets = [_field(2, 17), _field(1, _MICROSOFT.encode()) + _field(2, 1)]
    return _field(1, 8) + _field(7, graph) + b"".join(_field(8, opset) for opset in opsets)


def _layer(i: int, shape: BertShape) -> list[bytes]:
    """One layer: h{i} -> h{i + 1}, normalised after each residual (post-norm)."""
    return [
        node(
            "Attention",
            [f"h{i}", f"{i}.qkv", f"{i}.qkv.bias", "lengths"],
            [f"{i}.context"],
            num_heads=shape.n_heads,
        ),
        node("MatMul", [f"{i}.context", f"{i}.out"], [f"{i}.mixed"], domain=""),
        node(
            "SkipLayerNormalization",
            [f"{i}.mixed", f"h{i}", f"{i}.norm1.gamma", f"{i}.norm1.beta", f"{i}.out.bias"],
            [f"{i}.a"],
            epsilon=shape.epsilon,
        ),
        node("MatMul", [f"{i}.a", f"{i}.up"], [f"{i}.wide"], domain=""),
        node("BiasGelu", [f"{i}.wide", f"{i}.up.bias"], [f"{i}.active"]),
        node("MatMul", [f"{i}.active", f"{i}.down"], [f"{i}.narrow"], domain=""),
        node(
            "SkipLayerNormalization",
            [f"{i}.narrow", f"{i}.a", f"{i}.norm2.gamma", f"{i}.norm2.beta", f"{i}.down.bias"],
            [f"h{i + 1}"],
            epsilon=shape.epsilon,
        ),
    ]


# ONNX's wire format is protocol buffers; field numbers as in onnx/onnx.proto (IR version 8).


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(tag: int, value: bytes | int | float) -> bytes:
    if isinstance(value, bytes):
        return _varint(tag << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, float):
        return _varint(tag << 3 | 5) + struct.pack("<f", value)
    return _varint(tag << 3) + _varint(value)


def _strings(tag: int, values: Iterable[str]) -> bytes:
    return b"".join(_field(tag, value.encode()) for value in values)


def node(
    kind: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    domain: str = _MICROSOFT,
    **attributes: int | float,
) -> bytes:
    """Return a NodeProto, named like its first output."""
    made = _strings(1, inputs) + _strings(2, outputs) + _field(3, outputs[0].encode())
    made += _field(4, kind.encode())
    for name, value in attributes.items():
        is_float = isinstance(value, float)
        body = _field(1, name.encode()) + _field(2 if is_float else 3, value)
        made += _field(5, body + _field(20, 1 if is_float else 2))
    return made + _field(7, domain.encode())


def _external(name: str, array: npt.NDArray[Any]) -> bytes:
    dims = b"".join(_field(1, size) for size in array.shape)
    entry = _field(1, b"location") + _field(2, b"memory")
    return dims + _field(2, FLOAT) + _field(8, name.encode()) + _field(13, entry) + _field(14, 1)


def _value(name: str, kind: int, dims: Iterable[int | str]) -> bytes:
    shape = b"".join(
        _field(1, _field(2, d.encode()) if isinstance(d, str) else _field(1, d)) for d in dims
    )
    tensor = _field(1, kind) + _field(2, shape)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))
