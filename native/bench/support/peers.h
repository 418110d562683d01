// Matrix products of other libraries, for comparison. Each answers an empty function where the library was not built in.
#pragma once

#include <cstdint>
#include <functional>

namespace cudamoe::bench {

// Peers read their environment when they load, so this may start the program again with what it sets:
// - A version of OpenBLAS that is older than the processor falls to kernels for old processors: the AVX-512 kernels are asked for. A choice
//   left in the environment is undone likewise.
// - Idle threads of OpenBLAS and OpenMP spin for tens of milliseconds, on a processor that the next entry of a table needs: half a
//   millisecond is enough for calls that follow each other.
void prepare_peers(char** argv);

// Threads that the peers may use.
void set_peer_threads(int threads);

// y[m, n] = x[m, k] * w[n, k]^T; transposed_x: y[m, n] = x[k, m]^T * w[k, n] (a weight gradient). Leading dimensions are the widths.
std::function<void()> openblas_product(const float* x, const float* w, float* y, int64_t m, int64_t n, int64_t k, bool gradient = false);

enum class PeerType { kF32, kBf16 };
// oneDNN's matmul with weights reordered beforehand into the layout that it asks for. bf16 operands are converted beforehand too.
std::function<void()> onednn_packed_product(const float* x, const float* w, float* y, int64_t m, int64_t n, int64_t k, PeerType type);
// oneDNN's plain product of a weight gradient.
std::function<void()> onednn_gradient(const float* dz, const float* x, float* dw, int64_t n, int64_t k, int64_t rows);

}  // namespace cudamoe::bench
