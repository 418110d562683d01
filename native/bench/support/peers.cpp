#include "support/peers.h"

#include <memory>

#include "cpu/device.h"

#if defined(CUDAMOE_BENCH_OPENBLAS) || defined(CUDAMOE_BENCH_ONEDNN)
#include <strings.h>
#include <unistd.h>

#include <cstdlib>
#endif
#if defined(CUDAMOE_BENCH_OPENBLAS)
#include <cblas.h>
#endif
#if defined(CUDAMOE_BENCH_ONEDNN)
#include <omp.h>

#include <dnnl.hpp>
#include <unordered_map>
#endif

namespace cudamoe::bench {

void prepare_peers([[maybe_unused]] char** argv) {
#if defined(CUDAMOE_BENCH_OPENBLAS) || defined(CUDAMOE_BENCH_ONEDNN)
  bool changed = false;
  const auto want = [&](const char* variable, const char* value) {
    const char* set = std::getenv(variable);
    if (set != nullptr && strcasecmp(set, value) == 0) return;
    setenv(variable, value, 1);
    changed = true;
  };
#if defined(CUDAMOE_BENCH_OPENBLAS)
  const bool knows_avx512 = strcasecmp(openblas_get_corename(), "SkylakeX") == 0 ||
                            strcasecmp(openblas_get_corename(), "SapphireRapids") == 0 ||
                            strcasecmp(openblas_get_corename(), "Cooperlake") == 0;
  if (!knows_avx512 && cpu::level() >= cpu::Level::kAvx512) want("OPENBLAS_CORETYPE", "SkylakeX");
  want("OPENBLAS_THREAD_TIMEOUT", "20");  // 2^20 ticks of the processor's clock
#endif
  want("GOMP_SPINCOUNT", "10000");  // pauses of about 50 ns
  if (changed) execv("/proc/self/exe", argv);
#endif
}

void set_peer_threads([[maybe_unused]] int threads) {
#if defined(CUDAMOE_BENCH_OPENBLAS)
  openblas_set_num_threads(threads);
#endif
#if defined(CUDAMOE_BENCH_ONEDNN)
  omp_set_num_threads(threads);
#endif
}

#if defined(CUDAMOE_BENCH_OPENBLAS)
std::function<void()> openblas_product(const float* x, const float* w, float* y, int64_t m, int64_t n, int64_t k, bool gradient) {
  const auto rows = static_cast<blasint>(m), columns = static_cast<blasint>(n), depth = static_cast<blasint>(k);
  if (gradient) {
    return [=] { cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows, columns, depth, 1, x, rows, w, columns, 0, y, columns); };
  }
  return [=] { cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, columns, depth, 1, x, depth, w, depth, 0, y, columns); };
}
#else
std::function<void()> openblas_product(const float*, const float*, float*, int64_t, int64_t, int64_t, bool) { return {}; }
#endif

#if defined(CUDAMOE_BENCH_ONEDNN)
namespace {

struct OneDnn {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};
OneDnn& onednn() {
  static OneDnn instance;
  return instance;
}

}  // namespace

std::function<void()> onednn_packed_product(const float* x, const float* w, float* y, int64_t m, int64_t n, int64_t k, PeerType type) {
  using Tag = dnnl::memory::format_tag;
  using Type = dnnl::memory::data_type;
  dnnl::engine& engine = onednn().engine;
  dnnl::stream& stream = onednn().stream;
  const Type operand = type == PeerType::kBf16 ? Type::bf16 : Type::f32;
  const dnnl::matmul::primitive_desc plan(
      dnnl::matmul::desc({{m, k}, operand, Tag::ab}, {{k, n}, operand, Tag::any}, {{m, n}, Type::f32, Tag::ab}), engine);
  const dnnl::memory plain_x({{m, k}, Type::f32, Tag::ab}, engine, const_cast<float*>(x));
  const dnnl::memory plain_w({{k, n}, Type::f32, Tag::ba}, engine, const_cast<float*>(w));
  dnnl::memory source(plan.src_desc(), engine), weights(plan.weights_desc(), engine);
  dnnl::reorder(plain_x, source).execute(stream, const_cast<dnnl::memory&>(plain_x), source);
  dnnl::reorder(plain_w, weights).execute(stream, const_cast<dnnl::memory&>(plain_w), weights);
  stream.wait();
  const dnnl::memory result({{m, n}, Type::f32, Tag::ab}, engine, y);
  const dnnl::matmul primitive(plan);
  const std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, result}};
  return [=] {
    primitive.execute(onednn().stream, arguments);
    onednn().stream.wait();
  };
}

std::function<void()> onednn_gradient(const float* dz, const float* x, float* dw, int64_t n, int64_t k, int64_t rows) {
  return [=] { dnnl_sgemm('T', 'N', n, k, rows, 1, dz, n, x, k, 0, dw, k); };
}
#else
std::function<void()> onednn_packed_product(const float*, const float*, float*, int64_t, int64_t, int64_t, PeerType) { return {}; }
std::function<void()> onednn_gradient(const float*, const float*, float*, int64_t, int64_t, int64_t) { return {}; }
#endif

}  // namespace cudamoe::bench
