// Which kernel serves experts of given widths, and what the two operations share.
#pragma once

#include <algorithm>
#include <optional>

#include "cuda/gemm/gemm.h"
#include "expert/expert.h"

namespace cudamoe::cuda {

int64_t expert_forward_workspace(void* stream, const cudamoe_expert_forward_args& args);
cudamoe_status expert_forward(void* stream, const cudamoe_expert_forward_args& args);
int64_t expert_mix_workspace(void* stream, const cudamoe_expert_mix_args& args);
cudamoe_status expert_mix(void* stream, const cudamoe_expert_mix_args& args);

inline int64_t parts_of(int64_t total, int64_t part) { return (total + part - 1) / part; }

// Parts of a work space, each aligned to 64 bytes.
class Pieces {
 public:
  explicit Pieces(void* memory) : memory_(static_cast<char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    T* piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += parts_of(count * static_cast<int64_t>(sizeof(T)), 64) * 64;
    return piece;
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* memory_;
  int64_t bytes_ = 0;
};

// CUDAMOE_OK when kernels take widths of that size: they count them in 32 bits.
template <class Args>
cudamoe_status check_expert_size(const Args& args, const char* function) {
  if (std::max({args.n, args.hidden, args.k}) <= kernels::kGemmMost) return CUDAMOE_OK;
  return fail(CUDAMOE_ERROR_UNSUPPORTED, "%s: n is %lld, hidden is %lld and k is %lld; on a GPU they must be at most %lld", function,
              static_cast<long long>(args.n), static_cast<long long>(args.hidden), static_cast<long long>(args.k),
              static_cast<long long>(kernels::kGemmMost));
}

// A launch of the fused kernel with `list` experts a row, or none where the weights are not bf16 or the widths do not fit.
struct FusedExpert {
  kernels::ExpertLaunch launch;
  bool resident;
};
std::optional<FusedExpert> fuse_experts(const Device& device, int32_t packed_dtype, int64_t k, int64_t hidden, kernels::ExpertTile tile,
                                        int64_t list);
// Whether the device has wgmma, and so the tile of three tasks.
bool has_warp_groups(const Device& device);
// Encodes the packed weights for TMA, where the launch is by warp-groups.
cudaError_t map_weights(const kernels::Expert& expert, int32_t experts, kernels::ExpertLaunch& launch);

// What the fused kernel is told of the experts, by both operations.
template <class Args>
kernels::Expert describe_experts(const Args& args, const FusedExpert& fused) {
  const auto layer = [](const void* packed, int64_t columns, int64_t depth, const float* bias, int64_t bias_stride, int32_t activation) {
    const int64_t stride = kernels::gemm_packed_stride(columns);
    return kernels::ExpertLayer{packed, stride, depth * stride, bias, bias_stride, static_cast<kernels::Activation>(activation)};
  };
  kernels::Expert expert{};
  expert.depth = static_cast<int32_t>(args.k);
  expert.hidden = static_cast<int32_t>(args.hidden);
  expert.columns = static_cast<int32_t>(args.n);
  expert.x = {args.x, args.x_row_stride, 0, args.x_dtype == CUDAMOE_BF16 ? 1 : 0};
  expert.first = layer(args.packed1, args.hidden, args.k, args.bias1, args.bias1_group_stride, args.hidden_activation);
  expert.second = layer(args.packed2, args.n, args.hidden, args.bias2, args.bias2_group_stride, args.output_activation);
  expert.slope = args.activation_slope;
  expert.resident = fused.resident ? 1 : 0;
  return expert;
}

// Row tiles over the blocks: one for each multiprocessor that no inspector has, each with a run of tiles.
inline int32_t expert_blocks(const Device& device, int64_t tiles, int32_t inspectors) {
  return static_cast<int32_t>(std::clamp<int64_t>(tiles, 1, std::max(device.multiprocessors() - inspectors, 1)));
}

// Both layers as two products over the same rows, h in memory between them.
struct TwoProducts {
  kernels::GemmRows rows;
  kernels::GemmMatrix x, h, before, y;
};
template <class Args>
cudamoe_status run_two_products(const Stream& stream, const Args& args, const TwoProducts& two, const char* function) {
  kernels::GemmProduct first{};
  first.rows = two.rows;
  first.columns = static_cast<int32_t>(args.hidden);
  first.depth = static_cast<int32_t>(args.k);
  first.x = two.x;
  first.packed = args.packed1;
  first.y = two.h;
  first.before = two.before;
  first.bias = args.bias1;
  first.bias_group_stride = args.bias1_group_stride;
  first.activation = static_cast<kernels::Activation>(args.hidden_activation);
  first.slope = args.activation_slope;
  if (const cudamoe_status status = run_product(stream, first, args.packed_dtype, function); status != CUDAMOE_OK) return status;
  kernels::GemmProduct second{};
  second.rows = two.rows;
  second.rows.gather = nullptr;
  second.columns = static_cast<int32_t>(args.n);
  second.depth = static_cast<int32_t>(args.hidden);
  second.x = two.h;
  second.packed = args.packed2;
  second.y = second.before = two.y;
  second.before.data = nullptr;
  second.bias = args.bias2;
  second.bias_group_stride = args.bias2_group_stride;
  second.activation = static_cast<kernels::Activation>(args.output_activation);
  second.slope = args.activation_slope;
  return run_product(stream, second, args.packed_dtype, function);
}

}  // namespace cudamoe::cuda
