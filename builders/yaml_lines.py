"""YAML as plain values that know their lines, for `builders.manifest`.

It takes the part of YAML that a manifest needs – one document of mappings with text keys, lists and scalars – and
refuses the rest (anchors and aliases, tags, several documents, deep nesting, a key twice), because each of them can
surprise a reader or exhaust one. It knows nothing of what a manifest holds.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it
PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something YAML allows and we do not, or no YAML at all. `line` counts from 1."""

    line: int
    code: str
    message: str
    suggestion: str = ""
    path: Path = ()


@dataclass(slots=True)
class Document:
    """The values, the line of every key and list item by path, and what was refused on the way."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """Where the path is written, or the innermost part of it that is."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def at(self, path: Path) -> Any:
        """What is written there. The path is one of this document."""
        return functools.reduce(operator.getitem, path, self.value)


def load(text: str) -> Document:
    """Read a document; what is wrong with it is in `refused`, and `value` is then None or incomplete."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        return Document(refused=[Refused(1, "too_large", f"The file is larger than {MAX_BYTES // 1024} KiB")])
    try:
        refused = list(_refuse(text))
        if refused:
            return Document(refused=refused)
        node = yaml.compose(text, LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(part for part in (error.context, error.problem) if part)
        return Document(refused=[Refused(mark.line + 1 if mark else 1, "syntax", f"This is no valid YAML: {words}")])
    except yaml.reader.ReaderError as error:  # a character that YAML does not allow
        line = text.count("\n", 0, text.find(chr(error.character))) + 1 if isinstance(error.character, int) else 1
        return Document(refused=[Refused(line, "syntax", "This is no valid YAML: it holds a control character")])
    document = Document()
    document.value = _value(node, (), document) if node is not None else None
    return document


def _refuse(text: str) -> Iterator[Refused]:
    """What the stream of events shows, before anything is built from it."""
    depth = documents = 0
    for event in yaml.parse(text, LOADER):
        assert event.start_mark is not None
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                yield Refused(line, "documents", "The file holds a second document", "Remove the line ---")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            yield Refused(line, "anchor", "Anchors and aliases (& and *) are not supported", "Write the value out")
        elif (tag := getattr(event, "tag", None)) is not None:
            yield Refused(line, "tag", f"Tags such as {tag} are not supported", "Remove the tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            yield Refused(line, "depth", f"The file nests deeper than {MAX_DEPTH} levels")
            return


def _value(node: yaml.Node, path: Path, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), document) for index, item in enumerate(node.value)]
    if node.tag not in PLAIN_TAGS:
        return node.value  # also what YAML 1.1 takes for a date
    try:
        return yaml.SafeLoader("").construct_object(node)
    except ValueError as error:  # such as a number of more digits than Python converts
        document.refused.append(Refused(node.start_mark.line + 1, "syntax", f"This is no value: {error}", path=path))
        return None


def _mapping(node: yaml.MappingNode, path: Path, document: Document) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            document.refused.append(Refused(line, "key", "A key is a word", path=path))
            continue
        name = key.value
        here = (*path, name)
        if name in values:
            message = f"`{name}` is given twice, first in line {document.lines[here]}"
            document.refused.append(Refused(line, "duplicate_key", message, "Remove one of the two", here))
            continue
        document.lines[here] = line
        values[name] = _value(item, here, document)
    return values
