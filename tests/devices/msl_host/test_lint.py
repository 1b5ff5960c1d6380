"""What clang takes and Metal does not is refused; what both take is not."""

from __future__ import annotations

import mlx.core as mx
import pytest

from autotune.devices.msl_host import lint
from autotune.devices.msl_host.errors import HostError
from autotune.devices.msl_host.host import MslHost

from .calls import ONE, Call

X = {"x": mx.zeros((64,))}


def compiled(body: str, header: str = "") -> None:
    MslHost().compiled(Call(body, X, {"y": ONE}, header).source())


@pytest.mark.parametrize(
    ("rule", "line", "body", "header"),
    [
        (lint.POINTER, "float f(const float* p)", "y[0] = f(x);", "inline float f(const float* p) { return *p; }\n"),
        (lint.POINTER, "T f(const T* p)", "y[0] = f(x);", "template <class T> T f(const T* p) { return *p; }\n"),
        (lint.POINTER, "float& f", "y[0] = 1;", "inline float& f(device float* p) { return *p; }\n"),
        (lint.POINTER, "float* p;", "y[0] = 1;", "struct S {\n  float* p;\n};\n"),
        (lint.POINTER, "const float* p = x", "const float* p = x;\ny[0] = p[0];", ""),
        (lint.POINTER, "(const float*)x", "y[0] = ((const float*)x)[0];", ""),
        (lint.POINTER, "device float** p", "device float** p;\n(void)p; y[0] = 1;", ""),
        (lint.THREADGROUP, "float s[4]", "y[0] = 1;", "inline void f() {\n  threadgroup float s[4];\n}\n"),
        (lint.COMPARISON, "float4(a < b)", "float4 a = 1.0f, b = 2.0f;\ny[0] = float4(a < b).x;", ""),
        (lint.COMPARISON, "int4 c = a == b", "int4 a = 1, b = 2;\nint4 c = a == b;\ny[0] = c.x;", ""),
        (lint.CONDITIONAL, "a < b ? a : b", "float4 a = 1.0f, b = 2.0f;\nfloat4 c = a < b ? a : b;\ny[0] = c.x;", ""),
    ],
)
def test_refused(rule: str, line: str, body: str, header: str) -> None:
    with pytest.raises(HostError) as error:
        compiled(body, header)
    assert error.value.kind == "lint"
    assert error.value.detail.startswith(rule)
    assert line in error.value.lines[0]


@pytest.mark.parametrize(
    ("body", "header"),
    [
        ("y[0] = f(x);", "template <class T> T f(const device T* p) { return *p; }\n"),
        ("float q = 3; thread float* p = &q; thread float* thread* r = &p; y[0] = **r;", ""),
        ("auto p = x + 1; auto f = [&](thread float& a) { a += p[0]; }; float s = 0; f(s); y[0] = s;", ""),
        ("S s; s.v = 1; S t = s; y[0] = t.get();", "struct S { float v; float get() const { return v; } };\n"),
        ("float4 a = 1.0f, b = 2.0f; bool4 m = a < b; y[0] = float4(m).x + all(a < b && b > a) + any(!m);", ""),
        ("float4 a = 1.0f, b = 2.0f; y[0] = select(a, b, a < b).x + float4(bool4(a < b)).x;", ""),
        ("constexpr int n = 4; threadgroup float s[2 * n]; float r[n * 2]; s[0] = r[0] = 1; y[0] = s[0];", ""),
        ("threadgroup float s[4]; threadgroup float* p = s; p[0] = x[0]; y[0] = s[0];", ""),
        ("// float* p;\ny[0] = x[0]; /* threadgroup float q; */", "// threadgroup float q;\n"),
    ],
)
def test_accepted(body: str, header: str) -> None:
    compiled(body, header)


def test_it_can_be_left_out() -> None:
    source = Call("const float* p = x; y[0] = p[0];", X, {"y": ONE}).source()
    MslHost(lint=False).compiled(source)
