"""llama.cpp's C API: `from models.llama_library import llama`, and from nowhere else.

Builds of it, those for CUDA above all, may have the C++ library linked in. As soon as another
module (torch, or what loads libstdc++.so.6 for everybody) brings the system's, parts of the two
mix: the dynamic linker makes one of each of their unique objects, and code of one copy then reads
locale tables of the other. std::regex, with which llama.cpp splits text, throws bad_cast or
crashes, in whichever order they were loaded. So the system's library is opened first, for all that
is loaded later: the linker looks there before it looks into llama.cpp's own files, and every C++
symbol comes from one place, as with LD_PRELOAD. Where it is loaded already, for one module alone,
that opens it for all.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

if sys.platform == "linux":
    with contextlib.suppress(OSError):  # a system without it: nothing to mix with
        ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)

import llama_cpp
import llama_cpp.llama_cpp as llama

VERSION: str = llama_cpp.__version__

__all__ = ["VERSION", "llama"]
