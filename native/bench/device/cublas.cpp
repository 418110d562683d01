#include "device/cublas.h"

#include <dlfcn.h>

#include <stdexcept>

#include "device/timer.h"

namespace cudamoe::bench {
namespace {

// The numbers of cublas_api.h and library_types.h.
constexpr int kNoTranspose = 0, kTranspose = 1, kBf16 = 14, kComputeF32 = 68, kDefaultAlgorithm = -1;
constexpr int64_t kBytes = 2;  // of a bf16
const float kOne = 1, kZero = 0;

void check(int status) {
  if (status != 0) throw std::runtime_error("cuBLAS failed with status " + std::to_string(status));
}

template <class Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
}

template <class T>
T* at(T* pointer, int64_t elements) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return static_cast<Byte*>(pointer) + elements * kBytes;
}

}  // namespace

std::unique_ptr<Cublas> Cublas::open(DeviceEngine& engine, std::string* reason) {
  if (std::string(engine.info().backend) != "cuda") {
    *reason = "the device is no GPU";
    return nullptr;
  }
  void* library = nullptr;
  for (const char* name : {"libcublas.so.13", "libcublas.so.12"}) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW);
  }
  if (library == nullptr) {
    *reason = dlerror();
    return nullptr;
  }
  std::unique_ptr<Cublas> blas(new Cublas);
  int (*create)(Handle*) = nullptr;
  int (*set_stream)(Handle, void*) = nullptr;
  find(library, "cublasCreate_v2", create);
  find(library, "cublasSetStream_v2", set_stream);
  find(library, "cublasGemmEx", blas->gemm_);
  find(library, "cublasGemmStridedBatchedEx", blas->strided_);
  find(library, "cublasGemmGroupedBatchedEx", blas->grouped_);
  if (create == nullptr || set_stream == nullptr || blas->gemm_ == nullptr || blas->strided_ == nullptr) {
    *reason = "libcublas lacks a function";
    return nullptr;
  }
  check(create(&blas->handle_));
  check(set_stream(blas->handle_, native_stream(engine.stream())));
  return blas;
}

void Cublas::product(const void* w, const void* x, void* y, int64_t rows, int64_t n, int64_t k) {
  const int m = static_cast<int>(n), columns = static_cast<int>(rows), depth = static_cast<int>(k);
  check(gemm_(handle_, kTranspose, kNoTranspose, m, columns, depth, &kOne, w, kBf16, depth, x, kBf16, depth, &kZero, y, kBf16, m,
              kComputeF32, kDefaultAlgorithm));
}

std::function<void()> Cublas::loop(const GroupedProduct& p) {
  return [this, p] {
    for (size_t g = 0; g + 1 < p.offsets.size(); ++g) {
      const int64_t row = p.offsets[g];
      product(at(p.weights, static_cast<int64_t>(g) * p.n * p.k), at(p.x, row * p.k), at(p.y, row * p.n), p.offsets[g + 1] - row, p.n, p.k);
    }
  };
}

std::function<void()> Cublas::grouped(DeviceEngine& engine, const GroupedProduct& p) {
  if (grouped_ == nullptr || p.offsets.size() < 3) return {};
  const size_t groups = p.offsets.size() - 1;
  struct Lists {
    std::vector<int> transposed, plain, n, rows, k, sizes;
    std::vector<float> ones, zeros;
    const void *const *w, *const *x;
    void* const* y;
  };
  auto lists = std::make_shared<Lists>();
  std::vector<const void*> w, x;
  std::vector<void*> y;
  for (size_t g = 0; g < groups; ++g) {
    const int64_t row = p.offsets[g];
    w.push_back(at(p.weights, static_cast<int64_t>(g) * p.n * p.k));
    x.push_back(at(p.x, row * p.k));
    y.push_back(at(p.y, row * p.n));
    lists->rows.push_back(static_cast<int>(p.offsets[g + 1] - row));
  }
  lists->transposed.assign(groups, kTranspose);
  lists->plain.assign(groups, kNoTranspose);
  lists->n.assign(groups, static_cast<int>(p.n));
  lists->k.assign(groups, static_cast<int>(p.k));
  lists->sizes.assign(groups, 1);
  lists->ones.assign(groups, 1.0f);
  lists->zeros.assign(groups, 0.0f);
  lists->w = engine.upload(w);
  lists->x = engine.upload(x);
  lists->y = engine.upload(y);
  return [this, lists] {
    const Lists& l = *lists;
    check(grouped_(handle_, l.transposed.data(), l.plain.data(), l.n.data(), l.rows.data(), l.k.data(), l.ones.data(), l.w, kBf16,
                   l.k.data(), l.x, kBf16, l.k.data(), l.zeros.data(), l.y, kBf16, l.n.data(), static_cast<int>(l.sizes.size()),
                   l.sizes.data(), kComputeF32));
  };
}

std::function<void()> Cublas::batched(const GroupedProduct& p) {
  const size_t groups = p.offsets.size() - 1;
  const int64_t rows = p.offsets[1] - p.offsets[0];
  for (size_t g = 0; g < groups; ++g) {
    if (p.offsets[g + 1] - p.offsets[g] != rows) return {};
  }
  return [this, p, rows, groups] {
    const int m = static_cast<int>(p.n), columns = static_cast<int>(rows), depth = static_cast<int>(p.k);
    check(strided_(handle_, kTranspose, kNoTranspose, m, columns, depth, &kOne, p.weights, kBf16, depth, p.n * p.k, p.x, kBf16, depth,
                   rows * p.k, &kZero, p.y, kBf16, m, rows * p.n, static_cast<int>(groups), kComputeF32, kDefaultAlgorithm));
  };
}

}  // namespace cudamoe::bench
