#include "msl/tensor_ops.h"
