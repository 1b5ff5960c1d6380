// Metal's standard library for clang's "C++ for OpenCL 2021", so that kernels compile for the CPU.
//
// That dialect has Metal's address spaces as types, with the same rules for pointers, references and methods; on x86-64
// all of them are one memory, so code generation is ordinary. Everything of Metal's that a kernel may call is declared
// below; what differs from Metal on purpose is said where it is.
#pragma once

#include "address_spaces.h"
#include "runtime.h"

#include "types.h"
#include "traits.h"
#include "limits.h"
#include "vectors.h"
#include "bool_vectors.h"
#include "packed.h"

#include "integer.h"
#include "math.h"
#include "relational.h"
#include "geometric.h"
#include "pack.h"

#include "barriers.h"
#include "atomics.h"
#include "simd.h"
#include "quad.h"
#include "simdgroup_matrix.h"
#include "compute.h"
#include "builtins.h"
