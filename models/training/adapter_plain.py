"""Plain instruction data, written by the base itself, so that the adapter keeps a chat working.

    python -m models.training.adapter_plain --base BASE.gguf --out plain.jsonl [--rows 400]

Prompts are made from a list of tasks and topics, with and without a system message; the base
answers them on the CPU through llama.cpp (half of them greedily, half at temperature 0.7). Each
line of the output is `{"system": str, "prompt": str, "answer": str}`. Lines already in the file are
kept, so that an interrupted run goes on where it stopped.
"""

# ruff: noqa: E501 (lists of wordings)
from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

TASKS = (
    "Explain {t} in two sentences.",
    "What is {t}?",
    "Write a short poem about {t}.",
    "Give three facts about {t}.",
    "Why do people care about {t}?",
    "Explain {t} to a child.",
    "Write one paragraph about {t}.",
    "List four words that have to do with {t}.",
    "How would you begin to learn about {t}?",
    "Write a friendly e-mail that invites a colleague to a talk about {t}.",
    "What are the advantages and disadvantages of {t}?",
    "Write a title for an article about {t}.",
    "Tell me a short story about {t}.",
    "What should a beginner know about {t}?",
)
TOPICS = (
    "the water cycle", "photosynthesis", "bicycles", "the Roman Empire", "coffee", "neural networks",
    "chess", "volcanoes", "the moon", "bread", "electric motors", "vaccines", "libraries", "tides",
    "the printing press", "gravity", "trains", "honey bees", "recycling", "jazz", "the Python language",
    "earthquakes", "sleep", "the stock market", "glaciers", "friendship", "magnets", "tea",
    "the French Revolution", "databases", "bridges", "whales", "solar panels", "painting",
    "the human heart", "gardening", "steam engines", "maps", "football", "the ozone layer",
)  # fmt: skip
CHATS = (
    "Hello!", "Hi, who are you?", "Thank you!", "Good morning. How are you?", "Can you help me?",
    "What can you do?", "What is 7 plus 5?", "What is the capital of France?", "Name three colours.",
    "Write a haiku.", "Say hello in Spanish.", "Who wrote Hamlet?", "How many days has a week?",
    "Translate 'good night' into French.", "Sort these words: pear, apple, fig.",
    "Make this sentence polite: Give me the report.", "What is the opposite of hot?",
    "Complete the sentence: The sun rises in the", "Rewrite in the past tense: I walk to work.",
    "Summarize: The meeting was moved from Monday to Friday because the room was taken.",
)  # fmt: skip
SYSTEMS = ("", "", "You are a helpful assistant.", "Answer briefly.")


def prompts(n_rows: int, seed: int = 7) -> Iterator[tuple[str, str]]:
    """Yield `n_rows` different (system, prompt) pairs; an empty system: the template's own."""
    rng = random.Random(seed)
    pairs = [task.format(t=topic) for task in TASKS for topic in TOPICS]
    rng.shuffle(pairs)
    for prompt in (list(CHATS) + pairs)[:n_rows]:
        yield rng.choice(SYSTEMS), prompt


def generate(base: Path, out: Path, n_rows: int, max_tokens: int, n_threads: int) -> None:
    """Append what the base answers to `out` until it has `n_rows` lines."""
    from llama_cpp import Llama

    done = len(out.read_text(encoding="utf-8").splitlines()) if out.exists() else 0
    model = Llama(str(base), n_ctx=1024, n_threads=n_threads, verbose=False, seed=7)
    with out.open("a", encoding="utf-8") as file:
        for i, (system, prompt) in enumerate(prompts(n_rows)):
            if i < done:
                continue
            chat = [{"role": "system", "content": system}] if system else []
            chat.append({"role": "user", "content": prompt})
            reply = model.create_chat_completion(
                chat, max_tokens=max_tokens, temperature=0.0 if i % 2 else 0.7, repeat_penalty=1.0
            )
            choice = reply["choices"][0]
            if choice["finish_reason"] != "stop":  # an unfinished text teaches not to end
                choice["message"]["content"] += "\x00"
            row = {"system": system, "prompt": prompt, "answer": choice["message"]["content"]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()


def main() -> None:
    """Parse the command line and generate."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--max-tokens", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    generate(args.base, args.out, args.rows, args.max_tokens, args.threads)


if __name__ == "__main__":
    main()
