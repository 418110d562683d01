// cuBLAS as a peer of bf16 products, opened at run time: nothing is linked, and without it the peers are left out.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "device/cases.h"

namespace cudamoe::bench {

class Cublas {
 public:
  // Null, with the reason, where there is none.
  static std::unique_ptr<Cublas> open(DeviceEngine& engine, std::string* reason);

  // One call for each group.
  std::function<void()> loop(const GroupedProduct& product);
  // One call for all groups, each with its rows. Empty in versions before 12.5.
  std::function<void()> grouped(DeviceEngine& engine, const GroupedProduct& product);
  // One batched call of groups of equal size, as a dense layer of all experts has them. Empty where the sizes differ.
  std::function<void()> batched(const GroupedProduct& product);

 private:
  Cublas() = default;

  // Row-major y[rows, n] = x[rows, k] * w[n, k]^T is column-major y^T = w^T^T * x^T.
  void product(const void* w, const void* x, void* y, int64_t rows, int64_t n, int64_t k);

  using Handle = void*;
  Handle handle_ = nullptr;
  int (*gemm_)(Handle, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int, const void*, void*, int, int,
               int, int) = nullptr;
  int (*strided_)(Handle, int, int, int, int, int, const void*, const void*, int, int, long long, const void*, int, int, long long,
                  const void*, void*, int, int, long long, int, int, int) = nullptr;
  int (*grouped_)(Handle, const int*, const int*, const int*, const int*, const int*, const void*, const void* const*, int, const int*,
                  const void* const*, int, const int*, const void*, void* const*, int, const int*, int, const int*, int) = nullptr;
};

}  // namespace cudamoe::bench
