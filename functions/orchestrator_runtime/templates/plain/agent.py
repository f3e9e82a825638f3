"""Says what is in a text: how long it takes to read, its key words, and the sentences that say most.

The platform calls `handle` with the decoded JSON body, here as the dataclass of its annotation, and sends back what it
returns. What is printed is in `orchestrator logs`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

WORDS_PER_MINUTE = 230
COMMON = frozenset(
    "a about after all also an and are as at be because been but by can could do for from had has have he her his "
    "if in into is it its may more no not of on one only or other our out over she so some such than that the "
    "their them then there they this to up was we were what when which while who will with would you your".split()
)


@dataclass
class Text:
    """The input. `sentences`: how many of them the summary may have."""

    text: str
    sentences: int = 2


def handle(text: Text) -> dict[str, Any]:
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.text)
    weights = Counter(word.lower() for word in words if len(word) > 2 and word.lower() not in COMMON)
    print(f"read {len(words)} words")
    return {
        "words": len(words),
        "minutes": round(len(words) / WORDS_PER_MINUTE, 1),
        "key_words": [word for word, _ in weights.most_common(5)],
        "summary": summary(text.text, weights, length=text.sentences),
    }


def summary(text: str, weights: Counter[str], *, length: int) -> str:
    """The sentences whose words are the text's most frequent ones, in the order of the text."""
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))

    def weight(index: int) -> float:
        found = re.findall(r"\w+", sentences[index].lower())
        return sum(weights[word] for word in found) / (len(found) + 5)

    best = sorted(range(len(sentences)), key=weight, reverse=True)[:length]
    return " ".join(sentences[index] for index in sorted(best))
