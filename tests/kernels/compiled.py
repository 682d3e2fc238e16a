"""Compile every kernel for a GPU, here, without one; print what each takes as JSON lines.

    python -m tests.kernels.compiled [--sm 90] [NAME…]

`--sm`: the compute capability; 90 is Hopper, 80 the oldest that Triton compiles for.

Triton brings the assembler and a disassembler along: registers, stack (spills) and the width of the
loads are known before any GPU time is spent.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

POINTERS = {
    "low_ptr": "*i32",
    "high_ptr": "*i32",
    "factors_ptr": "*fp16",
    "subs_ptr": "*i8",
    "table_ptr": "*i32",
    "counts_ptr": "*i32",
    "state_ptr": "*i32",
    "token_ptr": "*i32",
    "codes_ptr": "*i32",
}
HALVES = ("k_scale", "k_zero", "v_scale", "v_zero", "sink_k", "sink_v", "newest_k", "newest_v")
FLOATS = ("eps", "scale_log2", "rope_scale")


def kind_of(name, constants):
    if name in POINTERS:
        return POINTERS[name]
    if name in ("k_codes_ptr", "v_codes_ptr"):
        bits = constants["k_bits" if name[0] == "k" else "v_bits"]
        return {16: "*fp16", 8: "*i8", 4: "*u8"}[bits]
    if name.endswith("_ptr"):
        return "*fp16" if name.removesuffix("_ptr") in HALVES else "*fp32"
    return "fp32" if name in FLOATS else "i32"


def compile_one(sm, name, kernel, constants, num_warps, num_stages=3, most_registers=None):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {n: "constexpr" if n in constants else kind_of(n, constants) for n in names}
    aligned = [i for i, n in enumerate(names) if n.endswith("_ptr") or n in ("n", "k", "max_pages")]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(n),): value for n, value in constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    options = {"num_warps": num_warps, "num_stages": num_stages, "maxnreg": most_registers}
    made = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(made.asm["cubin"])
        usage = run(tool, "-res-usage", file.name)
        sass = run(tool, "-sass", file.name)
    found = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z0-9.]+)", sass, re.M)
    count = Counter(i.split(".")[0] for i in found)
    return {
        "kernel": name,
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "stack": int(re.search(r"STACK:(\d+)", usage)[1]),
        "local_loads": count["LDL"],
        "shared": made.metadata.shared,
        "instructions": len(found),
        "matrix": count["HMMA"] + count["HGMMA"] + count["IMMA"],
        "loads": dict(Counter(i for i in found if i.startswith(("LDG", "LDGSTS")))),
        "common": dict(count.most_common(8)),
    }


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True).stdout


def variants():
    from docqa.bench.torch_kernels import attend_variants, label
    from kernels import decode_attention, matvec, step, unpack

    for name, bits, offset, halves, per_super, has_sub, has_min in (
        ("q4_k", 4, 0, 1, 8, True, True),
        ("q5_k", 5, 0, 1, 8, True, True),
        ("q6_k", 6, 32, 2, 16, True, False),
        ("q8_0", 8, 128, 1, 1, False, False),
    ):
        form = {
            "bits": bits,
            "offset": offset,
            "halves": halves,
            "per_super": per_super,
            "has_sub": has_sub,
            "has_min": has_min,
        }
        yield f"unpack {name}", unpack.unpack_kernel, {**form, "block": 64}, 4
        ends = {"has_bias": False, "has_residual": True, "is_native": True, "is_even": True}
        blocks = {"block_n": 1, "block_g": 32, "unroll": 2, "k": 4096}
        kernel = matvec.matvec_kernel
        yield f"matvec {name}", kernel, {**form, **ends, **blocks}, 1
    for end in ("norm", "gate"):
        constants = {
            "has_norm": end == "norm",
            "has_gate": end == "gate",
            "block_k": 4096,
            "block_r": 8,
        }
        yield f"prepare {end}", matvec.prepare_kernel, constants, 4
    for bits in (16, 8, 4):
        constants = {
            "group": 4,
            "dim": 128,
            "k_bits": bits,
            "v_bits": bits,
            "n_sink_slots": 16,
            "n_newest_slots": 128,
            "has_window": False,
            "page": 64,
            "block": 16,
        }
        kernel = decode_attention.attend_kernel
        for way, blocks in enumerate(attend_variants(bits)):
            constants |= {
                "rows": 4 if bits < 16 else 8,
                "dense_parts": blocks.dense_parts,
                "is_native": True,
            }
            name = f"attend {bits} bits" if not way else f"variant of {bits} bits {label(blocks)}"
            launch = blocks.num_warps, blocks.num_stages, blocks.most_registers or None
            yield name, kernel, dict(constants), *launch
    yield (
        "merge",
        decode_attention.merge_kernel,
        {"dim": 128, "parts": 128, "has_integers": True},
        4,
    )
    constants = {
        "n_heads": 32,
        "n_kv_heads": 8,
        "dim": 128,
        "rope_dim": 128,
        "is_interleaved": True,
        "has_norm": True,
        "n_newest_slots": 128,
        "n_sink_slots": 16,
    }
    yield "turn and keep", step.turn_kernel, constants, 1


def main():
    parser = argparse.ArgumentParser(prog="tests.kernels.compiled", description=__doc__)
    parser.add_argument("--sm", type=int, default=90)
    parser.add_argument("names", nargs="*", help="what a kernel's begins with; none: all")
    arguments = parser.parse_args()
    wanted = tuple(arguments.names)
    for name, kernel, constants, *blocks in variants():
        if wanted and not name.startswith(wanted):
            continue
        print(json.dumps(compile_one(arguments.sm, name, kernel, constants, *blocks)), flush=True)


if __name__ == "__main__":
    main()
