"""Each rewrite by itself, on what it is for and on what it must leave alone."""

from __future__ import annotations

import pytest

from autotune.devices.msl_host import translate


def test_comments_become_blanks_and_strings_stay() -> None:
    source = 'a; // threadgroup float x;\nlog("// no comment"); /* b\nc */ d;'
    blank = translate.without_comments(source)
    assert blank.split("\n")[0].rstrip() == "a;"
    assert '"// no comment"' in blank
    assert blank.count("\n") == source.count("\n")
    assert len(blank) == len(source)
    assert blank.endswith("d;")


def test_constructors_lose_their_thread_and_methods_keep_it() -> None:
    source = "struct S { S(int a) thread : v(a) {} S() threadgroup {} int get() const thread { return v; } int v; };"
    assert translate.unqualified_constructors(source) == source.replace("S(int a) thread", "S(int a)       ")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("int2 v(a, b);", "int2 v = int2(a, b);"),
        ("vec<T, 4> v(a, 0, 0, 0);", "vec<T, 4> v = vec<T, 4>(a, 0, 0, 0);"),
        ("float4 f(float a, int b);", "float4 f(float a, int b);"),
        ("float4 f(const device float* a);", "float4 f(const device float* a);"),
        ("float4 f();", "float4 f();"),
    ],
)
def test_vector_declarations(source: str, expected: str) -> None:
    assert translate.vector_declarations(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("return vec<T, 4>(a, b);", "return metal::make_vec<T, 4>(a, b);"),
        ("metal::vec<T, 2>(a.xy)", "metal::make_vec<T, 2>(a.xy)"),
        ("vec<vec_type<T>, 2>(a)", "metal::make_vec<vec_type<T>, 2>(a)"),
        ("operator vec<T, 2>() const", "operator vec<T, 2>() const"),
        ("vec<T, 4> v = f();", "vec<T, 4> v = f();"),
    ],
)
def test_vector_constructors(source: str, expected: str) -> None:
    assert translate.vector_constructors(source) == expected


def test_aliases_of_vectors_are_constructed() -> None:
    source = "using V = vec<T, 4>;\ntypedef float2 P;\nV a = V(1, 2, 3, 4); P b = P(1, 2); x.V(1); V c(1);"
    rewritten = translate.vector_aliases(source)
    assert "V a = msl_host::construct<V>(1, 2, 3, 4);" in rewritten
    assert "P b = msl_host::construct<P>(1, 2);" in rewritten
    assert "x.V(1); V c(1);" in rewritten


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("static_cast<T>(x)", "msl_host::cast<T>(x)"),
        ("static_cast<vec<T, 4>>(x)", "msl_host::cast<vec<T, 4>>(x)"),
        ("static_cast<device T*>(x)", "static_cast<device T*>(x)"),
        ("static_cast<thread T&>(x)", "static_cast<thread T&>(x)"),
        ("bfloat(h)", "msl_host::cast<bfloat>(h)"),
        ("float16_t(b)", "msl_host::cast<float16_t>(b)"),
        ("as.half(b)", "as.half(b)"),
        ("operator bfloat() const", "operator bfloat() const"),
    ],
)
def test_casts(source: str, expected: str) -> None:
    assert translate.casts(source) == expected


def test_bfloat_literals() -> None:
    assert translate.bfloat_literals("x = 1.5bf + 2bf + 0x1bf;") == "x = bfloat(1.5f) + bfloat(2.0f) + 0x1bf;"


def test_pointers_to_literals() -> None:
    assert translate.string_pointers("f(constant char* a, const constant char* b)").count("const constant char*") == 2


def test_function_constants_are_only_declared() -> None:
    source = "constant bool has [[function_constant(0)]];\nMLX_MTL_CONST int n [[function_constant(1)]];"
    assert translate.function_constants(source) == "extern constant bool has;\nextern constant int n;"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("threadgroup float s[64];", "MSL_THREADGROUP_VARIABLE(s, [64], float);"),
        ("x(); threadgroup float a;", "x(); MSL_THREADGROUP_VARIABLE(a, , float);"),
        ("  threadgroup T t[BN * (BK + 1)][4];", "  MSL_THREADGROUP_VARIABLE(t, [BN * (BK + 1)][4], T);"),
        (
            "threadgroup vec<T, 2> a[4], b;",
            "MSL_THREADGROUP_VARIABLE(a, [4], vec<T, 2>); MSL_THREADGROUP_VARIABLE(b, , vec<T, 2>);",
        ),
        ("threadgroup typename K::type s[K::size];", "MSL_THREADGROUP_VARIABLE(s, [K::size], typename K::type);"),
        ("threadgroup_barrier(mem_flags::mem_none);", "threadgroup_barrier(mem_flags::mem_none);"),
        ("threadgroup float* p = s;", "threadgroup float* p = s;"),
        ("void f(\nthreadgroup float* p);", "void f(\nthreadgroup float* p);"),
        ("threadgroup float& r = s[0];", "threadgroup float& r = s[0];"),
    ],
)
def test_threadgroup_variables(source: str, expected: str) -> None:
    assert translate.threadgroup_variables(source) == expected


def test_threadgroup_variables_over_several_lines_keep_the_line_numbers() -> None:
    source = "a;\nthreadgroup float s[\n  64\n];\nb;"
    rewritten = translate.threadgroup_variables(source)
    assert rewritten.split("\n").index("b;") == source.split("\n").index("b;")
    assert translate.threadgroup_variable_lines(source) == [2]


def test_all_rewrites_keep_the_line_numbers() -> None:
    source = (
        "// one\nstruct S {\n  S() thread {}\n};\n/* two\nthree */\nthreadgroup half s[2];\nx = static_cast<T>(1);\n"
    )
    assert translate.translate(source).count("\n") == source.count("\n")
