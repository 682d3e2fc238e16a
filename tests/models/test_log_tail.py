"""llama.cpp's log callback outlives the object that set it."""

import subprocess
import sys

CODE = """
import gc
from models.llama_context import LogTail
import llama_cpp.llama_cpp as llama
LogTail()
gc.collect()
llama.llama_model_load_from_file(b"/nowhere.gguf", llama.llama_model_default_params())
print("alive")
"""


def test_a_log_line_after_its_owner_is_gone_is_no_crash():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout == "alive\n", done.returncode
