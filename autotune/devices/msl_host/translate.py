"""Metal source into what clang's "C++ for OpenCL" accepts, where macros and headers (``include/``) cannot do it.

Every rewrite is mechanical, keeps the line numbers, and changes no meaning. What none of them covers is left alone, and
then clang refuses it: nothing here can turn a kernel silently into another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TYPE_ARGUMENTS = r"<[^<>;(){}]*(?:<[^<>;(){}]*>[^<>;(){}]*)*>"
_VECTOR = r"(?:(?:u?char|u?short|u?int|u?long|half|float|bfloat)[234])"
_DECLARED = rf"(?:alignas\([^)]*\)\s*)?(?:typename\s+)?[A-Za-z_][\w:]*(?:{_TYPE_ARGUMENTS}(?:::\w+)*)?"
_DIMENSIONS = r"\s*(?:\[[^;]*?\]\s*)*"
# At the start of a line or a statement, which a parameter is not, and without `*` and `&`.
_THREADGROUP_VARIABLE = re.compile(
    rf"(?m)(?:^|(?<=[;{{}}]))([ \t]*)threadgroup\s+({_DECLARED})\s+(\w+{_DIMENSIONS}(?:,\s*\w+{_DIMENSIONS})*);"
)


def without_comments(source: str) -> str:
    """Comments become blanks, so that the rewrites below see code only; strings are left as they are."""

    def blank(match: re.Match[str]) -> str:
        text = match[0]
        return text if text[0] in "\"'" else re.sub(r"[^\n]", " ", text)

    return re.sub(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|//(?:\\\n|[^\n])*|/\*.*?\*/", blank, source, flags=re.S)


def unqualified_constructors(source: str) -> str:
    """``S(...) thread`` becomes ``S(...)``: clang cannot return ``{...}`` through a constructor of an address space."""
    names = set(re.findall(r"\b(?:struct|class)\s+(?:alignas\([^)]*\)\s*)?(\w+)", source))
    if not names:
        return source
    out = list(source)
    for match in re.finditer(r"\b(?:" + "|".join(map(re.escape, sorted(names))) + r")\s*\(", source):
        end = _closing(source, match.end())
        qualifier = re.compile(r"\s*(?:const\s+)?thread\b(?=\s*(?:[:{;=]|noexcept))").match(source, end)
        if qualifier:
            out[qualifier.end() - len("thread") : qualifier.end()] = " " * len("thread")
    return "".join(out)


def vector_declarations(source: str) -> str:
    """``int2 v(a, b);`` becomes ``int2 v = int2(a, b);``, which the constructors' rewrites then reach."""

    def declare(match: re.Match[str]) -> str:
        kind, name, arguments = match.groups()
        declares_a_function = re.search(r"\b[A-Za-z_]\w*[\s*&]+[A-Za-z_]", arguments) or not arguments.strip()
        return match[0] if declares_a_function else f"{kind} {name} = {kind}({arguments});"

    kind = rf"\b({_VECTOR}|(?:metal::)?vec{_TYPE_ARGUMENTS})"
    return re.sub(kind + r"\s+(\w+)\(([^;{}]*)\)\s*;", declare, source)


def vector_constructors(source: str) -> str:
    """``vec<T, 4>(a, b)`` becomes ``metal::make_vec<T, 4>(a, b)``: clang casts one value to a vector, never several."""
    return re.sub(rf"(?<!operator )(?<![\w:])(?:metal::)?vec({_TYPE_ARGUMENTS})\(", r"metal::make_vec\1(", source)


def vector_aliases(source: str) -> str:
    """The same for names given to vector types with ``using`` or ``typedef``: ``V(a, b)`` becomes
    ``msl_host::construct<V>(a, b)``."""
    vector = rf"(?:{_VECTOR}|(?:metal::)?vec{_TYPE_ARGUMENTS})"
    names = set(re.findall(rf"\busing\s+(\w+)\s*=\s*{vector}\s*;", source))
    names |= set(re.findall(rf"\btypedef\s+{vector}\s+(\w+)\s*;", source))
    if not names:
        return source
    # A name after a word or a colon is declared or qualified there, not called.
    called = r"(?<![\w:.>])(?<!operator )(" + "|".join(map(re.escape, sorted(names))) + r")\("
    return re.sub(called, r"msl_host::construct<\1>(", source)


def casts(source: str) -> str:
    """``static_cast<T>(x)``, ``bfloat(x)`` and ``half(x)`` go through ``msl_host::cast``: clang has no conversion
    between half and bfloat."""
    # A cast to a pointer or a reference, and one with a call inside its type, is none of those.
    source = re.sub(r"\bstatic_cast\s*<([^<>&*()]*(?:<[^<>&*()]*>)?)>\s*\(", r"msl_host::cast<\1>(", source)
    return re.sub(r"(?<!operator )(?<![\w:.])(bfloat16_t|float16_t|bfloat|half)\(", r"msl_host::cast<\1>(", source)


def bfloat_literals(source: str) -> str:
    """``1.5bf`` becomes ``bfloat(1.5f)``."""
    number = r"(?<![\w.])((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)bf\b"
    return re.sub(number, lambda match: f"bfloat({match[1]}f)" if "." in match[1] else f"bfloat({match[1]}.0f)", source)


def string_pointers(source: str) -> str:
    """``constant char*`` becomes ``const constant char*``, which is what a literal is to clang."""
    return re.sub(r"(?<!const )\bconstant char\s*\*", "const constant char*", source)


def function_constants(source: str) -> str:
    """``constant bool has_bias [[function_constant(0)]];`` becomes a declaration: ``metal_kernel`` cannot set one, and
    whoever reads it gets a link error."""
    declared = r"\b\w*(?:constant|CONST)\s+(?:constexpr\s+)?([\w:]+)\s+(\w+)\s*"
    return re.sub(declared + r"\[\[\s*function_constant\([^)]*\)\s*\]\]\s*;", r"extern constant \1 \2;", source)


def threadgroup_variables(source: str) -> str:
    """``threadgroup float tile[8][33];`` becomes a reference into the runtime's threadgroup memory: clang allows such
    variables in OpenCL kernels only, and those cannot be templates."""

    def declare(match: re.Match[str]) -> str:
        indent, kind, declarators = match.groups()
        macros = []
        for declarator in _split(declarators):
            name, _, dimensions = declarator.partition("[")
            dimensions = "[" + dimensions if dimensions else ""
            macros.append(f"MSL_THREADGROUP_VARIABLE({name.strip()}, {dimensions.strip()}, {kind});")
        # A declaration over several lines leaves its line breaks behind.
        lines = match[0].count("\n")
        return indent + " ".join(macros).replace("\n", " ") + "\n" * lines

    return _THREADGROUP_VARIABLE.sub(declare, source)


def threadgroup_variable_lines(source: str) -> list[int]:
    """Numbers of the lines on which a threadgroup variable is declared, from 1."""
    return [source[: match.start(2)].count("\n") + 1 for match in _THREADGROUP_VARIABLE.finditer(source)]


REWRITES: tuple[Callable[[str], str], ...] = (
    without_comments,
    unqualified_constructors,
    threadgroup_variables,
    function_constants,
    string_pointers,
    bfloat_literals,
    vector_declarations,
    vector_aliases,
    vector_constructors,
    casts,
)


def translate(source: str) -> str:
    """All rewrites, in order."""
    for rewrite in REWRITES:
        source = rewrite(source)
    return source


def _closing(source: str, start: int) -> int:
    """Index behind the parenthesis that closes the one just before ``start``."""
    depth, at = 1, start
    while at < len(source) and depth:
        depth += (source[at] == "(") - (source[at] == ")")
        at += 1
    return at


def _split(declarators: str) -> list[str]:
    """Parts between the commas that lie outside brackets."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(declarators):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(declarators[start:at])
            start = at + 1
    return [*parts, declarators[start:]]
