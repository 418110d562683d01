// Forward products with one output column: y[r] = finish(x[r, :] . w).
#pragma once

#include "cpu/gemm/product.h"

namespace cudamoe::cpu {

// True when run_dot computes the product.
bool is_dot(const Product& product);

// `workspace` has `worker_floats` floats for each worker, at least kMostDotDepth.
void run_dot(Stream& stream, const Product& product, float* workspace, int64_t worker_floats);

}  // namespace cudamoe::cpu
