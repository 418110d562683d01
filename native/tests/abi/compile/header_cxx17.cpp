// The header is C++17 as well: this file is compiled as such.
#include "cudamoe.h"

static_assert(__cplusplus == 201703L, "this file is to be compiled as C++17");
static_assert(sizeof(cudamoe_status) == 4, "a status is 32 bits wide");
