// Scaled dot-product attention over many short sequences.
//
//   s[j] = scale <q, k[j]>,  p = softmax(s) over the seen keys,  y = sum_j p[j] w[j] v[j],  log_sum = ln sum_j exp(s[j])
//
// Floor: q, k, v read once, y written once; 4 flops for each pair of a row (query and head), a key and a column.
// Tiling: a task is some sequences and a key head. Keys in blocks of kKeyBlock, packed once for kRowsAtOnce rows; rows in tiles of
// kTileRows. The softmax is the online one (Milakov and Gimelshein 2018): sums of earlier blocks are scaled when the largest score grows.
// Order of the sums: scores along columns; exponentials by lanes, then the lanes, then the blocks; y along keys.
#include <cmath>
#include <limits>

#include "cpu/attention/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention/attention_forward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/attention/blocks-inl.h"
#include "cpu/common/activation-inl.h"

#ifndef CUDAMOE_CPU_ATTENTION_FORWARD_SCRATCH
#define CUDAMOE_CPU_ATTENTION_FORWARD_SCRATCH
namespace cudamoe::cpu {

inline constexpr int64_t kRowsAtOnce = 32;

// What a worker keeps of a block of keys and some rows.
struct ForwardScratch {
  ForwardScratch(void* workspace, int worker, int64_t padded) {
    float* memory = reinterpret_cast<float*>(static_cast<char*>(workspace) + worker * bytes(padded));
    keys = memory;
    key_lanes = keys + kKeyBlock * padded;
    values = key_lanes + kKeyBlock * padded;
    sums = values + kKeyBlock * padded;
    scores = sums + kRowsAtOnce * padded;
  }
  static int64_t bytes(int64_t padded) {
    return ((3 * kKeyBlock + kRowsAtOnce) * padded + kTileRows * kKeyBlock) * static_cast<int64_t>(sizeof(float));
  }

  float *keys, *key_lanes, *values;  // [kKeyBlock][padded], by lanes, [kKeyBlock][padded]
  float* sums;                       // [kRowsAtOnce][padded]
  float* scores;                     // [kTileRows][kKeyBlock]
};

}  // namespace cudamoe::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

class AttentionForward {
 public:
  AttentionForward(const cudamoe_attention_forward_args& args, const ForwardScratch& scratch, int32_t key_head)
      : args_(args),
        scratch_(scratch),
        key_head_(key_head),
        group_(args.heads / args.key_heads),
        width_(args.head_width),
        padded_(padded_width(args.head_width)) {}

  void sequence(int64_t sequence, int64_t count) {
    sequence_ = sequence;
    count_ = count;
    const int64_t rows = args_.queries * group_;
    for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
      const int64_t n = std::min(kRowsAtOnce, rows - first);
      begin_rows(first, n);
      for (int64_t key = 0; key < count_; key += kKeyBlock) {
        pack_block(key);
        for (int64_t tile = 0; tile < n; tile += kTileRows) add_block(first, tile, std::min(kTileRows, n - tile), key);
      }
      for (int64_t r = 0; r < n; ++r) finish_row(first + r, r);
    }
  }

 private:
  // Row r of a sequence is query r / group and head key_head * group + r mod group.
  int64_t query_of(int64_t row) const { return row / group_; }
  int64_t head_of(int64_t row) const { return key_head_ * group_ + row % group_; }
  int64_t at(int64_t row, int64_t stride) const { return (sequence_ * args_.queries + query_of(row)) * stride + head_of(row) * width_; }

  void begin_rows(int64_t first, int64_t n) {
    for (int64_t r = 0; r < n; ++r) {
      most_[r] = -std::numeric_limits<float>::infinity();
      total_[r] = 0;
      seen_[r] = seen_keys(args_, query_of(first + r), count_);
    }
    std::fill_n(scratch_.sums, (n + kTileRows - 1) / kTileRows * kTileRows * padded_, 0.0f);
  }

  // Shared keys stay packed from sequence to sequence, so all of them are packed, not only those that this one sees.
  void pack_block(int64_t key) {
    const bool shared = args_.shared_keys != 0;
    const int64_t row = shared ? key : sequence_ * args_.keys + key;
    if (row == packed_) return;
    packed_ = row;
    const int64_t n = std::min(kKeyBlock, (shared ? args_.keys : count_) - key);
    pack_rows(args_.k + row * args_.k_row_stride + key_head_ * width_, args_.k_row_stride, n, width_, scratch_.keys);
    rows_to_key_lanes(scratch_.keys, n, padded_, scratch_.key_lanes);
    pack_rows(args_.v + row * args_.v_row_stride + key_head_ * width_, args_.v_row_stride, n, width_, scratch_.values);
  }

  void add_block(int64_t first, int64_t tile, int64_t rows, int64_t key) {
    const float* q[kTileRows];
    Seen seen{};
    for (int64_t r = 0; r < kTileRows; ++r) {
      q[r] = args_.q + at(first + tile + (r < rows ? r : 0), args_.q_row_stride);
      if (r < rows) seen.keys[r] = std::clamp<int64_t>(seen_[tile + r] - key, 0, kKeyBlock);
    }
    if (seen.most() == 0) return;
    multiply_by_keys(q, width_, scratch_.key_lanes, padded_, seen.most(), scratch_.scores);
    for (int64_t r = 0; r < rows; ++r) {
      if (seen.keys[r] > 0) softmax_block(tile + r, scratch_.scores + r * kKeyBlock, seen.keys[r], key);
    }
    add_rows(scratch_.scores, seen, scratch_.values, padded_, scratch_.sums + tile * padded_);
  }

  // Products of a row become p w, up to the row's total; what was summed before is scaled to the new largest score.
  void softmax_block(int64_t r, float* row, int64_t seen, int64_t key) {
    const F32 d;
    const VecF32 scale = hn::Set(d, args_.scale), lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
    VecF32 most = lowest;
    for (int64_t j = 0; j < seen; j += kLanes) {
      const VecF32 score = hn::Mul(hn::Load(d, row + j), scale);
      hn::Store(score, d, row + j);
      most = hn::Max(most, hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(seen - j)), score, lowest));
    }
    const float before = most_[r], now = std::max(before, hn::GetLane(hn::MaxOfLanes(d, most)));
    if (now != before && total_[r] != 0) {
      const VecF32 factor = exp(d, hn::Set(d, before - now));
      float* sums = scratch_.sums + r * padded_;
      for (int64_t c = 0; c < padded_; c += kLanes) hn::Store(hn::Mul(hn::Load(d, sums + c), factor), d, sums + c);
      total_[r] *= hn::GetLane(factor);
    }
    most_[r] = now;
    const float* weights = args_.key_weights == nullptr ? nullptr : args_.key_weights + sequence_ * args_.key_weights_row_stride + key;
    VecF32 total = hn::Zero(d);
    for (int64_t j = 0; j < seen; j += kLanes) {
      const int64_t lanes = std::min<int64_t>(kLanes, seen - j);
      const VecF32 raw = exp(d, hn::Sub(hn::Load(d, row + j), hn::Set(d, now)));
      const VecF32 p = hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(lanes)), raw);
      total = hn::Add(total, p);
      hn::Store(weights == nullptr ? p : hn::Mul(p, load_first(d, weights + j, lanes)), d, row + j);
    }
    total_[r] += hn::GetLane(hn::SumOfLanes(d, total));
  }

  void finish_row(int64_t row, int64_t r) const {
    const F32 d;
    const bool none = seen_[r] == 0;
    const VecF32 inverse = hn::Set(d, none ? 0.0f : 1.0f / total_[r]);
    float* y = args_.y + at(row, args_.y_row_stride);
    for (int64_t c = 0; c < width_; c += kLanes)
      store_first(d, hn::Mul(hn::Load(d, scratch_.sums + r * padded_ + c), inverse), y + c, std::min<int64_t>(kLanes, width_ - c));
    if (args_.log_sum == nullptr) return;
    args_.log_sum[(sequence_ * args_.queries + query_of(row)) * args_.heads + head_of(row)] =
        none ? -std::numeric_limits<float>::infinity() : most_[r] + std::log(total_[r]);
  }

  const cudamoe_attention_forward_args& args_;
  const ForwardScratch& scratch_;
  int64_t key_head_, group_, width_, padded_;
  int64_t sequence_ = 0, count_ = 0, packed_ = -1;
  float most_[kRowsAtOnce], total_[kRowsAtOnce];
  int64_t seen_[kRowsAtOnce];
};

void attend(const cudamoe_attention_forward_args& args, const ForwardScratch& scratch, int32_t key_head, int64_t first, int64_t sequences,
            FirstOffender& bad) {
  AttentionForward forward(args, scratch, key_head);
  for (int64_t s = first; s < first + sequences; ++s) forward.sequence(s, key_count(args, s, bad));
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(attend);

int64_t attention_forward_workspace(void* handle, const cudamoe_attention_forward_args& args) {
  return stream_of(handle).device().threads() * ForwardScratch::bytes(padded_width(args.head_width));
}

cudamoe_status attention_forward(void* handle, const cudamoe_attention_forward_args& args) {
  Stream& stream = stream_of(handle);
  if (is_by_columns(args)) {
    column_attention_forward(stream, args);
    return CUDAMOE_OK;
  }
  const SequenceBlocks blocks = sequence_blocks(args);
  FirstOffender bad;
  stream.device().for_tiles(blocks.count * args.key_heads, attention_cost(args, 2), [&](int64_t task, int worker) {
    const int64_t first = blocks.first(task, args.key_heads);
    const ForwardScratch scratch(args.workspace, worker, padded_width(args.head_width));
    HWY_DYNAMIC_DISPATCH(attend)
    (args, scratch, static_cast<int32_t>(task % args.key_heads), first, std::min(blocks.size, args.sequences - first), bad);
  });
  report_key_count(stream, "cudamoe_attention_forward", args, bad);
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
