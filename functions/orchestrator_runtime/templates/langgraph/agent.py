"""Triages GitHub issues: their kind, area and urgency, what is missing, which earlier ones are alike, and a reply.

The input is the payload of GitHub's `issues` webhook. Rules decide, so it needs no model and no key. Each rule is a
node of the graph: they run side by side, each is a step of the run, and `decide` joins what they found. Runs of one
session (say, one per repository) know each other's issues, which is how duplicates are found.
"""

from __future__ import annotations

import math
import re
from bisect import bisect
from collections import Counter
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

# Make these yours. Patterns are matched in lower case; one in the title counts three times.
KINDS = {
    "security": r"vulnerab|\bcve-\d|\bxss\b|injection|remote code|(leak|expos)\w* .{0,20}(token|password|secret)",
    "bug": r"crash|traceback|exception|\w*error\b|regress|broken|\bfails?\b|panic|segfault|data loss|\blost\b"
    r"|(does not|doesn't|stopped) work|steps to reproduce|expected behaviou?r",
    "performance": r"\bslow|latency|memory leak|out of memory|timeouts?\b|hangs?\b|takes (minutes|hours|forever)",
    "documentation": r"\bdocs?\b|documentation|typo|readme|tutorial",
    "feature": r"feature request|would be (nice|great|useful)|support for|please add|proposal|add an? (option|flag)",
    "question": r"how (do|can|to|should)\b|is it possible|what is the|any way to",
}
AREAS = {
    "api": r"\bapi\b|endpoint|http \d{3}|\brest\b|graphql|webhook|/routes?/|/handlers?/",
    "cli": r"\bcli\b|command line|terminal|--[a-z][\w-]+|/cli/",
    "ui": r"\bui\b|button|\bpage\b|browser|\bcss\b|dark mode|/components?/",
    "storage": r"database|sqlite|postgres|migration|transaction|\bdisk\b|archive|backup|\bexport|/storage/|/db/",
    "auth": r"log ?in|\bauth|permission|\bsso\b|oauth|password",
    "install": r"\binstall|\bpip\b|\bnpm\b|docker|package|wheel|dependenc",
}
URGENCY = {  # pattern: (points, reason)
    r"data loss|lost (all|my|our|every)|corrupt|silently (drop|delet|overwrit)": (4, "data is lost"),
    r"vulnerab|\bcve-\d|remote code": (4, "it may be exploitable"),
    r"production|outage|\bdown for\b|all (our )?(users|customers)": (3, "production is affected"),
    r"crash|panic|segfault": (2, "it crashes"),
    r"regression|since (the )?(upgrad|updat)|worked (fine )?(in|before|until)": (2, "it is a regression"),
    r"block(s|ed|er|ing)\b|cannot (use|start|log)": (1, "it blocks work"),
    r"workaround|work around": (-1, "there is a workaround"),
}
NEEDED = {  # what a report of a bug must have
    "the version you use": r"\bv?\d+\.\d+(\.\d+)?\b",
    "steps to reproduce it": r"reproduc|^\s*1[.)] |```",
    "what you expected, and what happened instead": r"expect|instead|should (have|be|not)",
    "your operating system": r"linux|ubuntu|debian|fedora|mac ?os|windows|alpine|docker image",
}
LEVELS, POINTS = ("normal", "high", "critical"), (3, 6)
ALIKE = 0.45  # cosine of two issues that are probably one
REMEMBERED = 500  # issues per session
COMMON = frozenset(
    "about after again and any are because been but can could did does for from get has have how into its just not now "
    "one only our out same see should some that the their then there they this too use using version was what when "
    "which while why will with work you your".split()
)


def remember(known: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({issue["number"]: issue for issue in [*known, *new]}.values())[-REMEMBERED:]


class Webhook(TypedDict):
    """The input; what else GitHub sends is ignored."""

    action: str
    issue: dict[str, Any]


class Answer(TypedDict):
    triage: dict[str, Any]


class State(Webhook, Answer):
    kind: str
    areas: list[str]
    urgency: list[tuple[int, str]]
    missing: list[str]
    duplicates: list[dict[str, Any]]
    known: Annotated[list[dict[str, Any]], remember]


def texts(state: State) -> tuple[str, str]:
    """Title and body in lower case, the body without its quotations and comments."""
    body = re.sub(r"<!--.*?-->|^>.*?$", "", state["issue"].get("body") or "", flags=re.DOTALL | re.MULTILINE)
    return (state["issue"].get("title") or "").lower(), body.lower()


def score(pattern: str, title: str, body: str) -> int:
    return 3 * len(re.findall(pattern, title)) + len(re.findall(pattern, body, re.MULTILINE))


def is_for_us(state: State) -> list[str] | str:
    """New, changed and reopened issues of people go to all rules at once; anything else is skipped."""
    by_person = (state["issue"].get("user") or {}).get("type") != "Bot"
    wanted = state["action"] in ("opened", "edited", "reopened") and "pull_request" not in state["issue"]
    return RULES if wanted and by_person else "skip"


def skip(state: State) -> dict[str, Any]:
    return {"triage": {"issue": state["issue"].get("number"), "skipped": f"nothing to do when it is {state['action']}"}}


def find_kind(state: State) -> dict[str, Any]:
    scores = {kind: score(pattern, *texts(state)) for kind, pattern in KINDS.items()}
    best = max(scores, key=lambda kind: scores[kind])
    return {"kind": best if scores[best] else "question"}


def find_areas(state: State) -> dict[str, Any]:
    scores = {area: score(pattern, *texts(state)) for area, pattern in AREAS.items()}
    return {"areas": sorted((area for area in scores if scores[area] > 1), key=lambda area: -scores[area])[:2]}


def find_urgency(state: State) -> dict[str, Any]:
    text = "\n".join(texts(state))
    found = [weight for pattern, weight in URGENCY.items() if re.search(pattern, text)]
    votes = (state["issue"].get("reactions") or {}).get("+1", 0)
    return {"urgency": [*found, *([(1 + votes // 10, f"{votes} people voted for it")] if votes >= 5 else [])]}


def find_missing(state: State) -> dict[str, Any]:
    title, body = texts(state)
    return {"missing": [what for what, pattern in NEEDED.items() if not score(pattern, title, body)]}


def find_duplicates(state: State) -> dict[str, Any]:
    mine = fingerprint(state["issue"])
    alike = [
        {"number": known["number"], "title": known["title"], "similarity": round(cosine(mine, known["words"]), 2)}
        for known in state.get("known", [])
        if known["number"] != state["issue"]["number"]
    ]
    alike.sort(key=lambda known: -known["similarity"])
    return {"duplicates": [known for known in alike if known["similarity"] >= ALIKE][:3]}


def decide(state: State) -> dict[str, Any]:
    """One verdict. Only reports of bugs must be complete, and only they and security can be urgent."""
    issue, kind, duplicates = state["issue"], state["kind"], state["duplicates"]
    missing = state["missing"] if kind in ("bug", "performance") else []
    level = LEVELS[bisect(POINTS, sum(points for points, _ in state["urgency"]))]
    if kind not in ("bug", "security", "performance"):
        level = "normal" if level in ("high", "critical") else "low"
    labels = [kind, *(f"area: {area}" for area in state["areas"]), f"priority: {level}"]
    labels += ["needs information"] * bool(missing) + ["possible duplicate"] * bool(duplicates)
    print(f"#{issue['number']} {kind}, {level}: {issue['title']}")
    triage = {
        "issue": issue["number"],
        "labels": labels,
        "because": [reason for _, reason in state["urgency"]],
        "missing": missing,
        "duplicates": duplicates,
        "reply": reply(issue, missing, duplicates),
    }
    return {
        "triage": triage,
        "known": [{"number": issue["number"], "title": issue["title"], "words": fingerprint(issue)}],
    }


def reply(issue: dict[str, Any], missing: list[str], duplicates: list[dict[str, Any]]) -> str:
    """The comment to post, in Markdown."""
    lines = [f"Thank you for the report, @{(issue.get('user') or {}).get('login', 'you')}."]
    if duplicates:
        lines += ["", "It looks like what was reported before; please say so if it is not:"]
        lines += [f"- #{known['number']} {known['title']}" for known in duplicates]
    if missing:
        lines += ["", "To look into it we also need:", *(f"- {what}" for what in missing)]
    return "\n".join(lines)


def fingerprint(issue: dict[str, Any]) -> dict[str, float]:
    """The words of an issue and their weights; words of the title and names of errors tell most."""
    title, body = issue.get("title") or "", issue.get("body") or ""
    words = Counter({word: 3 * count for word, count in Counter(re.findall(r"[a-z]{3,}", title.lower())).items()})
    words.update(re.findall(r"[a-z]{3,}", body.lower()))
    words.update({name.lower(): 4 for name in re.findall(r"\b\w+(?:Error|Exception)\b|\bE[A-Z]{4,}\b", title + body)})
    return {word: round(1 + math.log(count), 3) for word, count in words.most_common(80) if word not in COMMON}


def cosine(one: dict[str, float], other: dict[str, float]) -> float:
    product = sum(weight * other[word] for word, weight in one.items() if word in other)
    return product / (math.hypot(*one.values()) * math.hypot(*other.values()) or 1)


RULES = ["find_kind", "find_areas", "find_urgency", "find_missing", "find_duplicates"]
graph = StateGraph(State, input_schema=Webhook, output_schema=Answer)
for node in (find_kind, find_areas, find_urgency, find_missing, find_duplicates, skip, decide):
    graph.add_node(node)
graph.add_conditional_edges(START, is_for_us, [*RULES, "skip"])
graph.add_edge(RULES, "decide")
graph.add_edge("decide", END)
graph.add_edge("skip", END)
