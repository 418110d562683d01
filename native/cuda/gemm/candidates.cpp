#include "cuda/gemm/candidates.h"

#include <algorithm>
#include <array>
#include <string>

#include "cuda/tensor_map.h"
#include "cuda/trials/kind.h"
#include "cuda/trials/memory.h"

namespace cudamoe::cuda {

bool is_aligned(const kernels::GemmMatrix& matrix) {
  const int64_t of_16_bytes = matrix.is_bf16 != 0 ? 8 : 4;
  return reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0 && matrix.row_stride % of_16_bytes == 0 &&
         matrix.group_stride % of_16_bytes == 0;
}

namespace {

using kernels::GemmMatrix;
using kernels::GemmProduct;
using kernels::GemmRows;
using kernels::GemmTile;
using kernels::GemmWgrad;

constexpr int kSamples = 256;

// Rows of a group. For ragged groups, whose sizes the host does not know, the average counts.
int64_t rows_of_group(const GemmRows& rows) { return rows.offsets != nullptr ? divide_up(rows.rows, rows.groups) : rows.rows; }

Bits row_bits(const GemmRows& rows) {
  return Bits()
      .add(static_cast<uint64_t>(rows.function), 2)
      .add(rows.offsets != nullptr, 1)
      .add(rows.gather != nullptr, 1)
      .add(power_above(rows.groups), 5)
      .add(power_above(rows_of_group(rows)), 6);
}

std::string row_words(const GemmRows& rows) {
  return std::to_string(rows.groups) + (rows.offsets != nullptr ? " ragged" : "") + (rows.gather != nullptr ? " gathered" : "") +
         " groups of up to 2^" + std::to_string(power_above(rows_of_group(rows))) + " rows";
}

// --------------------------------------------------------------------------------------------------------------------
// Products
// --------------------------------------------------------------------------------------------------------------------

// Whether wgmma serves a product of packed bf16 weights: many rows, x copied 16 bytes at a time, a cheap activation.
bool is_for_wgmma(const Device& device, const GemmProduct& product) {
  return device.architecture() == 90 && is_aligned(product.x) && product.activation <= kernels::Activation::kLeakyRelu &&
         rows_of_group(product.rows) > kernels::gemm_tile_rows(GemmTile::kLow);
}

// The largest tile that leaves two blocks for every multiprocessor; the low one where groups have few rows. Results are the same in every
// tile.
GemmTile tile_of(const Device& device, const GemmProduct& product, bool bf16) {
  const int64_t groups = product.rows.groups, rows = rows_of_group(product.rows);
  if (rows <= kernels::gemm_tile_rows(GemmTile::kLow)) return GemmTile::kLow;
  const int64_t blocks = groups * divide_up(rows, kernels::gemm_tile_rows(GemmTile::kLarge)) *
                         divide_up(product.columns, kernels::gemm_tile_columns(GemmTile::kLarge, bf16));
  return product.columns > 32 && blocks >= 2 * device.multiprocessors() ? GemmTile::kLarge : GemmTile::kMedium;
}

// The row tile of the two that needs the fewest turns of the multiprocessors, and how many of its columns a block takes of a row tile, so
// that all have work. A turn's time is taken as its elements, and the copy of a row tile as 64 columns more.
struct WgmmaShape {
  kernels::GemmWgmmaTile tile;
  int32_t column_tiles_of_unit;
  int64_t time;
};
WgmmaShape wgmma_shape(const Device& device, const GemmProduct& product, int32_t rows) {
  WgmmaShape best{{}, 0, INT64_MAX};
  const int32_t columns = product.columns <= 64 ? 64 : 128;
  const int64_t across = divide_up(product.columns, columns), down = product.rows.groups * divide_up(rows_of_group(product.rows), rows);
  for (int64_t of_unit = across; of_unit >= 1; of_unit = of_unit == 1 ? 0 : divide_up(of_unit, 2)) {
    const int64_t turns = divide_up(down * divide_up(across, of_unit), device.multiprocessors());
    const int64_t time = turns * rows * (of_unit * columns + 64);
    if (time < best.time) best = {{rows, columns}, static_cast<int32_t>(of_unit), time};
  }
  return best;
}

cudaError_t run_wgmma(const Stream& stream, const GemmProduct& product, int32_t rows) {
  kernels::GemmWgmmaProduct p{};
  p.product = product;
  const WgmmaShape shape = wgmma_shape(stream.device(), product, rows);
  p.column_tiles_of_unit = shape.column_tiles_of_unit;
  const int64_t element = 2;
  const TensorShape packed{const_cast<void*>(product.packed),
                           3,
                           {product.packed_row_stride, product.depth, product.rows.groups},
                           {0, product.packed_row_stride * element, product.packed_group_stride * element},
                           {64, 64, 1},
                           static_cast<int>(element),
                           128};
  if (const cudaError_t error = encode_tensor_map(packed, &p.packed); error != cudaSuccess) return error;
  return kernels::gemm_product_wgmma(p, shape.tile, stream.device().multiprocessors(), stream.get());
}

// A list that hangs on nothing but the kind of a call, so that an index means the same for all calls of a kind.
class ProductCandidates {
 public:
  ProductCandidates(const Device& device, const GemmProduct& product, bool bf16) {
    const int64_t rows = rows_of_group(product.rows);
    const GemmTile tile = tile_of(device, product, bf16);
    const auto add_tiles = [&](const std::array<const char*, 3>& names, Run in_tile, int sums) {
      for (const GemmTile each : {GemmTile::kLarge, GemmTile::kMedium, GemmTile::kLow}) {
        if (each == GemmTile::kLarge && product.columns <= 32) continue;
        if (each == GemmTile::kLow && rows > kernels::gemm_tile_rows(GemmTile::kMedium)) continue;
        if (each == tile) plain = count_;
        add(names[static_cast<size_t>(each)], sums, {in_tile, each, 0});
      }
    };
    if (bf16) {
      if (is_for_wgmma(device, product)) {
        add("wgmma-256", 0, {nullptr, {}, 256});
        add("wgmma-128", 0, {nullptr, {}, 128});
        if (wgmma_shape(device, product, 128).time < wgmma_shape(device, product, 256).time) preferred = 1;
      }
      const bool only = count_ == 0;
      add_tiles({"bf16-large", "bf16-medium", "bf16-low"}, kernels::gemm_product_bf16, 1);
      if (only) preferred = plain;
    } else {
      if (splits_f32(device)) {
        add_tiles({"tf32-large", "tf32-medium", "tf32-low"}, kernels::gemm_product_tf32, 0);
        preferred = plain;
      }
      add_tiles({"ffma-large", "ffma-medium", "ffma-low"}, kernels::gemm_product_ffma, 1);
      if (!splits_f32(device)) preferred = plain;
    }
  }

  std::span<const Candidate> list() const { return {candidates_.data(), count_}; }
  cudaError_t run(const Stream& stream, const GemmProduct& product, size_t index) const {
    const Kernel& kernel = kernels_[index];
    return kernel.wgmma_rows != 0 ? run_wgmma(stream, product, kernel.wgmma_rows) : kernel.run(product, kernel.tile, stream.get());
  }

  size_t preferred = 0;  // untried
  size_t plain = 0;      // of the last sums, in the tile for the shape

 private:
  using Run = cudaError_t (*)(const GemmProduct&, GemmTile, cudaStream_t);
  struct Kernel {
    Run run;
    GemmTile tile;
    int32_t wgmma_rows;
  };

  void add(const char* name, int sums, const Kernel& kernel) {
    candidates_[count_] = {name, sums};
    kernels_[count_++] = kernel;
  }

  std::array<Candidate, 6> candidates_{};
  std::array<Kernel, 6> kernels_{};
  size_t count_ = 0;
};

class ProductTrial : public Trial {
 public:
  ProductTrial(const Stream& stream, const GemmProduct& product, const ProductCandidates& candidates, bool bf16)
      : stream_(stream), product_(product), candidates_(candidates), bf16_(bf16), memory_(stream) {
    product_.accumulate = 0;
  }

  std::string describe() const override {
    return std::to_string(product_.depth) + " -> " + std::to_string(product_.columns) + " " + (bf16_ ? "bf16" : "f32") + ", " +
           row_words(product_.rows);
  }

  cudaError_t prepare() override {
    const cudaError_t error = replace(product_.y);
    return error == cudaSuccess && product_.before.data != nullptr ? replace(product_.before) : error;
  }

  cudaError_t poison() override { return memory_.poison(); }
  cudaError_t run(size_t candidate) override { return candidates_.run(stream_, product_, candidate); }

  cudaError_t compare(kernels::SampleCounts* counts) override {
    return kernels::gemm_compare_product(product_, bf16_, kSamples, counts, stream_.get());
  }

 private:
  // Puts memory of the trial, aligned as the matrix is, in its place.
  cudaError_t replace(GemmMatrix& matrix) {
    const bool aligned = is_aligned(matrix);
    const int64_t stride = kernels::gemm_packed_stride(product_.columns) + (aligned ? 0 : 1);
    const GemmRows& rows = product_.rows;
    const bool many = rows.offsets == nullptr && rows.groups > 1;
    matrix.row_stride = stride;
    matrix.group_stride = many ? rows.rows * stride : 0;
    const int64_t elements = (many ? rows.groups : 1) * rows.rows * stride;
    uint16_t* memory = nullptr;
    const cudaError_t error = memory_.take(elements * (matrix.is_bf16 != 0 ? 1 : 2), &memory);
    matrix.data = memory;
    return error;
  }

  const Stream& stream_;
  GemmProduct product_;
  const ProductCandidates& candidates_;
  bool bf16_;
  TrialMemory memory_;
};

CallKind kind_of(const GemmProduct& product, bool bf16) {
  Bits form = row_bits(product.rows);
  form.add(bf16, 1).add(product.x.is_bf16 != 0, 1).add(product.y.is_bf16 != 0, 1).add(is_aligned(product.x), 1);
  form.add(is_aligned(product.y), 1).add(product.before.data != nullptr, 1).add(product.below.data != nullptr, 1);
  form.add(static_cast<uint64_t>(product.activation), 3).add(product.bias != nullptr, 1);
  return {shape_bits(product.columns, product.depth), form.get()};
}

// --------------------------------------------------------------------------------------------------------------------
// Weight gradients
// --------------------------------------------------------------------------------------------------------------------

class WgradCandidates {
 public:
  WgradCandidates(const Device& device, const GemmWgrad& wgrad, bool bf16) {
    if (bf16) {
      const bool one_type = wgrad.dz.is_bf16 == wgrad.x.is_bf16;
      if (device.architecture() == 90 && one_type && is_aligned(wgrad.dz) && is_aligned(wgrad.x)) add("wgmma", nullptr);
      add("bf16", kernels::gemm_wgrad_bf16);
    } else {
      if (splits_f32(device)) add("tf32", kernels::gemm_wgrad_tf32);
      add("ffma", kernels::gemm_wgrad_ffma);
    }
  }

  std::span<const Candidate> list() const { return {candidates_.data(), count_}; }
  cudaError_t run(const Stream& stream, const GemmWgrad& wgrad, const WgradPlan& plan, size_t index) const {
    const cudaError_t error = runs_[index] == nullptr ? kernels::gemm_wgrad_wgmma(wgrad, plan.wgmma_tile, stream.get())
                                                      : runs_[index](wgrad, plan.tile, stream.get());
    return error == cudaSuccess && wgrad.partials != nullptr ? kernels::gemm_wgrad_sum(wgrad, stream.get()) : error;
  }

 private:
  using Run = cudaError_t (*)(const GemmWgrad&, GemmTile, cudaStream_t);

  void add(const char* name, Run in_tile) {
    candidates_[count_] = {name, static_cast<int>(count_)};
    runs_[count_++] = in_tile;
  }

  std::array<Candidate, 2> candidates_{};
  std::array<Run, 2> runs_{};
  size_t count_ = 0;
};

class WgradTrial : public Trial {
 public:
  WgradTrial(const Stream& stream, const GemmWgrad& wgrad, const WgradPlan& plan, const WgradCandidates& candidates, bool bf16)
      : stream_(stream), wgrad_(wgrad), plan_(plan), candidates_(candidates), bf16_(bf16), memory_(stream) {
    wgrad_.accumulate = 0;
  }

  std::string describe() const override {
    return std::to_string(wgrad_.n) + " x " + std::to_string(wgrad_.k) + " " + (bf16_ ? "bf16" : "f32") + ", " + row_words(wgrad_.rows);
  }

  cudaError_t prepare() override {
    wgrad_.dw_row_stride = wgrad_.k;
    wgrad_.dw_group_stride = int64_t{wgrad_.n} * wgrad_.k;
    wgrad_.dbias_group_stride = wgrad_.n;
    const cudaError_t error = memory_.take(wgrad_.rows.groups * wgrad_.dw_group_stride, &wgrad_.dw);
    return error == cudaSuccess && wgrad_.dbias != nullptr ? memory_.take(int64_t{wgrad_.rows.groups} * wgrad_.n, &wgrad_.dbias) : error;
  }

  cudaError_t poison() override { return memory_.poison(); }
  cudaError_t run(size_t candidate) override { return candidates_.run(stream_, wgrad_, plan_, candidate); }

  cudaError_t compare(kernels::SampleCounts* counts) override {
    return kernels::gemm_compare_wgrad(wgrad_, bf16_, kSamples, counts, stream_.get());
  }

 private:
  const Stream& stream_;
  GemmWgrad wgrad_;
  const WgradPlan& plan_;
  const WgradCandidates& candidates_;
  bool bf16_;
  TrialMemory memory_;
};

CallKind kind_of(const GemmWgrad& wgrad, bool bf16) {
  Bits form = row_bits(wgrad.rows);
  form.add(bf16, 1).add(wgrad.x.is_bf16 != 0, 1).add(wgrad.dz.is_bf16 != 0, 1).add(is_aligned(wgrad.x), 1).add(is_aligned(wgrad.dz), 1);
  form.add(wgrad.dbias != nullptr, 1).add(wgrad.partials != nullptr, 1);
  return {shape_bits(wgrad.n, wgrad.k), form.get()};
}

}  // namespace

cudamoe_status choose_and_run(const Stream& stream, const GemmProduct& product, int32_t packed_dtype, const char* function) {
  const bool bf16 = packed_dtype == CUDAMOE_BF16;
  const ProductCandidates candidates(stream.device(), product, bf16);
  size_t chosen = candidates.preferred;
  Trials& trials = stream.device().trials();
  if (const CallKind kind = kind_of(product, bf16); trials.on() && !trials.known(kind, &chosen)) {
    ProductTrial trial(stream, product, candidates, bf16);
    const cudamoe_status status = trials.choose(stream, function, kind, candidates.list(), candidates.plain, trial, &chosen);
    if (status != CUDAMOE_OK) return status;
  }
  return stream.check(candidates.run(stream, product, chosen), function);
}

cudamoe_status choose_and_run(const Stream& stream, const GemmWgrad& wgrad, const WgradPlan& plan, int32_t compute_dtype) {
  constexpr const char* kFunction = "cudamoe_gemm_wgrad";
  const bool bf16 = compute_dtype == CUDAMOE_BF16;
  const WgradCandidates candidates(stream.device(), wgrad, bf16);
  size_t chosen = 0;
  Trials& trials = stream.device().trials();
  if (const CallKind kind = kind_of(wgrad, bf16); trials.on() && !trials.known(kind, &chosen)) {
    WgradTrial trial(stream, wgrad, plan, candidates, bf16);
    const cudamoe_status status = trials.choose(stream, kFunction, kind, candidates.list(), candidates.list().size() - 1, trial, &chosen);
    if (status != CUDAMOE_OK) return status;
  }
  return stream.check(candidates.run(stream, wgrad, plan, chosen), kFunction);
}

}  // namespace cudamoe::cuda
