"""What clang accepts and Metal does not, read from clang's syntax tree of a kernel's source (30 ms a kernel).

- Pointers, references and casts to them without an address space. To Metal they are errors; to clang they are generic,
  and take anything.
- Threadgroup variables outside the kernel's own body, which translate.py would let pass.
- Comparisons of vectors used as numbers: a lane that holds is 1 in Metal and -1 in clang. Where a comparison goes into
  ``all``, ``any``, ``select`` or a bool vector the two agree.
- ``?:`` with a vector for its condition, which clang decides lane by lane.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import diagnostics, signature, toolchain
from .errors import HostError
from .translate import threadgroup_variable_lines, without_comments

POINTER = "a pointer or reference without an address space"
THREADGROUP = "a threadgroup variable outside the kernel"
COMPARISON = "a comparison of vectors used as a number"
CONDITIONAL = "?: with a vector for its condition"

_SPACES = re.compile(r"__(?:global|constant|local|private)\b")
_DECLARATIONS = ("ParmVarDecl", "VarDecl", "FieldDecl", "TypedefDecl", "TypeAliasDecl")
_CASTS = ("CStyleCastExpr", "CXXStaticCastExpr", "CXXReinterpretCastExpr", "CXXFunctionalCastExpr", "CXXConstCastExpr")
_FUNCTIONS = ("FunctionDecl", "CXXMethodDecl")
_COMPARES = re.compile(r"'(?:<|>|<=|>=|==|!=|&&|\|\|)'$")
_TRANSPARENT = ("ParenExpr", "ImplicitCastExpr", "MaterializeTemporaryExpr", "ExprWithCleanups", "CXXBindTemporaryExpr")
_TAKES_BOOLS = re.compile(r"Function 0x\w+ '(?:all|any|select|make_bool_vec)'")

_NODE = re.compile(r"^([\s|`-]*)(\w+)(?: 0x\w+)?(?: (?:parent|prev) 0x\w+)*(?: <([^>]*)>)?(.*)$")
_PLACE = re.compile(r"line:(?P<line>\d+):\d+|col:\d+|(?P<file>[^\s,<>:]+):(?P<first>\d+):\d+")
_TYPE = re.compile(r"'([^']*)'")


@dataclass
class Node:
    """A line of the dump: its depth, what it is, the file and line that it stands at, and the rest of its text."""

    depth: int
    kind: str
    file: str
    line: int
    text: str
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def type(self) -> str:
        """The type as the source writes it."""
        found = _TYPE.search(self.text)
        return found[1] if found else ""


def refuse(source: str, unit: toolchain.Unit) -> None:
    """Raises :class:`HostError` of kind ``lint`` where ``source``, compiled as ``unit``, breaks a rule."""
    found: dict[str, list[int]] = {}
    body = signature.body_line(source)
    outside = [line for line in threadgroup_variable_lines(without_comments(source)) if line < body]
    if outside:
        found[THREADGROUP] = outside
    for node in nodes(toolchain.syntax_tree(unit)):
        if node.file == diagnostics.FILE and (rule := broken(node)):
            found.setdefault(rule, []).append(node.line)
    for rule, numbers in found.items():
        raise HostError("lint", f"{rule}: Metal refuses it", diagnostics.lines(source, sorted(numbers)))


def broken(node: Node) -> str:
    """The rule that a node breaks, or nothing."""
    if node.kind in _DECLARATIONS or node.kind in _CASTS:
        return POINTER if _unqualified(node.type) else ""
    if node.kind in _FUNCTIONS:
        return POINTER if _unqualified(node.type.partition("(")[0]) else ""
    if node.kind == "ConditionalOperator":
        return CONDITIONAL if node.children and _is_vector(node.children[0]) else ""
    if node.kind == "BinaryOperator" and _COMPARES.search(node.text) and _is_vector(node):
        return "" if _becomes_bools(node) else COMPARISON
    return ""


def nodes(dump: str) -> Iterator[Node]:
    """The dump's nodes, but not what the compiler added of itself.

    Clang prints a file only where it changes, and a line only where that does: both are carried from node to node.
    """
    file, line = "", 0
    stack: list[Node] = []
    hidden: int | None = None
    every: list[Node] = []
    for text in dump.splitlines():
        text = re.sub(r"<(scratch space|invalid sloc|built-in|command line)>(:\d+:\d+)?", "", text)
        match = _NODE.match(text)
        if not match:
            continue
        prefix, kind, span, rest = match.groups()
        depth = len(prefix)
        for place in _PLACE.finditer(span or ""):
            file, line = _moved(place, file, line)
        own = _PLACE.match(rest.strip())
        if own:
            file, line = _moved(own, file, line)
        if hidden is not None and depth > hidden:
            continue
        hidden = depth if re.match(r"\s*(?:(?:line|col):\S+ )?implicit\b", rest) else None
        if hidden is not None:
            continue
        while stack and stack[-1].depth >= depth:
            stack.pop()
        node = Node(depth, kind, file.rpartition("/")[2], line, rest.strip(), stack[-1] if stack else None)
        if node.parent:
            node.parent.children.append(node)
        stack.append(node)
        every.append(node)
    yield from every


def _moved(place: re.Match[str], file: str, line: int) -> tuple[str, int]:
    if place["file"]:
        return place["file"], int(place["first"])
    return file, int(place["line"] or line)


def _unqualified(kind: str) -> bool:
    """Whether something in a type points or refers to no address space in particular."""
    # Not what a template or a function takes: its own declaration is looked at. Nor an array's length. `auto` stands
    # for what it deduces.
    kind = re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>|\[[^\]]*\]", "", kind))
    if "(" in kind or "auto" in kind:
        return False
    pointees = re.split(r"[*&]+", kind)[:-1]
    return any(not _SPACES.search(pointee) for pointee in pointees)


def _is_vector(node: Node) -> bool:
    return "ext_vector_type" in node.text


def _becomes_bools(node: Node) -> bool:
    above = node.parent
    while above is not None:
        joins = above.kind == "BinaryOperator" and re.search(r"'(?:&|\||\^|&&|\|\|)'$", above.text)
        if "bool_vec" in above.text and above.kind in ("CXXConstructExpr", "ImplicitCastExpr", "CXXFunctionalCastExpr"):
            return True
        if above.kind == "CallExpr":
            return any(_TAKES_BOOLS.search(line.text) for line in _callee(above))
        if not joins and above.kind not in _TRANSPARENT:
            return False
        above = above.parent
    return False


def _callee(call: Node) -> Iterator[Node]:
    node: Node | None = call.children[0] if call.children else None
    while node is not None:
        yield node
        node = node.children[0] if node.children else None
