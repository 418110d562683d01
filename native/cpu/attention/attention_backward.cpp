// The gradient of scaled dot-product attention on queries, keys and values.
//
// With p[j] = exp(scale <q, k[j]> - log_sum), w the key weights and D = <dy, y>:
//   dv[j] += p[j] w[j] dy,   ds[j] = scale p[j] (w[j] <dy, v[j]> - D),   dq = sum_j ds[j] k[j],   dk[j] += ds[j] q
//
// Floor: q, k, v, y, dy read once, dq, dk, dv written once; 10 flops for each pair of a row (query and head), a key and a column.
// Tiling: as the forward. A task owns the dk and dv of its sequences; of shared keys it has partial sums, added by a second step.
// Order of the sums: scores along columns; dq along keys; dk and dv along rows, then (shared) sequences, then blocks of sequences in f64.
#include <utility>

#include "cpu/attention/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention/attention_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/attention/blocks-inl.h"
#include "cpu/common/activation-inl.h"

#ifndef CUDAMOE_CPU_ATTENTION_BACKWARD_SCRATCH
#define CUDAMOE_CPU_ATTENTION_BACKWARD_SCRATCH
namespace cudamoe::cpu {

// What a worker keeps of a block of keys and a tile of rows.
struct BackwardScratch {
  BackwardScratch(void* workspace, int worker, int64_t padded) {
    float* memory = reinterpret_cast<float*>(static_cast<char*>(workspace) + worker * bytes(padded));
    for (float** block : {&keys, &key_lanes, &value_lanes, &dk, &dv}) *block = std::exchange(memory, memory + kKeyBlock * padded);
    for (float** tile : {&q, &dy, &dq}) *tile = std::exchange(memory, memory + kTileRows * padded);
    for (float** tile : {&ds, &pw}) *tile = std::exchange(memory, memory + kTileRows * kKeyBlock);
  }
  static int64_t bytes(int64_t padded) {
    return ((5 * kKeyBlock + 3 * kTileRows) * padded + 2 * kTileRows * kKeyBlock) * static_cast<int64_t>(sizeof(float));
  }

  float *keys, *key_lanes, *value_lanes;  // a block's, by rows and by lanes
  float *dk, *dv;                         // sums of a block, [kKeyBlock][padded]
  float *q, *dy, *dq;                     // a tile's, [kTileRows][padded]
  float *ds, *pw;                         // [kTileRows][kKeyBlock]; first scores and <dy, v>
};

// Where a task's dk and dv go.
struct KeyGradients {
  float *dk, *dv;
  int64_t dk_row_stride, dv_row_stride;
};

}  // namespace cudamoe::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

class AttentionBackward {
 public:
  AttentionBackward(const cudamoe_attention_backward_args& args, const BackwardScratch& scratch, int32_t key_head, FirstOffender& bad)
      : args_(args),
        scratch_(scratch),
        bad_(bad),
        key_head_(key_head),
        group_(args.heads / args.key_heads),
        width_(args.head_width),
        padded_(padded_width(args.head_width)) {}

  // Sequences with keys of their own.
  void separate(int64_t first, int64_t sequences) {
    const KeyGradients out{args_.dk, args_.dv, args_.dk_row_stride, args_.dv_row_stride};
    for (int64_t s = first; s < first + sequences; ++s) {
      const int64_t count = begin_sequence(s);
      for (int64_t key = 0; key < args_.keys; key += kKeyBlock) {
        const int64_t n = std::min(kKeyBlock, args_.keys - key), row = s * args_.keys + key;
        begin_block(row, std::clamp<int64_t>(count - key, 0, n));
        if (key < count) add_sequence(s, count, key);
        store_block(out, row, n);
      }
    }
  }

  // Sequences that share their keys; `out` has rows for all keys.
  void shared(int64_t first, int64_t sequences, const KeyGradients& out) {
    for (int64_t s = first; s < first + sequences; ++s) begin_sequence(s);
    for (int64_t key = 0; key < args_.keys; key += kKeyBlock) {
      const int64_t n = std::min(kKeyBlock, args_.keys - key);
      begin_block(key, n);
      for (int64_t s = first; s < first + sequences; ++s) {
        const int64_t count = key_count(args_, s, bad_);
        if (key < count) add_sequence(s, count, key);
      }
      store_block(out, key, n);
    }
  }

 private:
  // Row r of a sequence is query r / group and head key_head * group + r mod group.
  int64_t query_of(int64_t row) const { return row / group_; }
  int64_t at(int64_t sequence, int64_t row, int64_t stride) const {
    return (sequence * args_.queries + query_of(row)) * stride + (key_head_ * group_ + row % group_) * width_;
  }

  // dq becomes 0: blocks of keys add to it.
  int64_t begin_sequence(int64_t sequence) {
    for (int64_t row = 0; row < args_.queries * group_; ++row) std::fill_n(args_.dq + at(sequence, row, args_.dq_row_stride), width_, 0.0f);
    return key_count(args_, sequence, bad_);
  }

  void begin_block(int64_t row, int64_t n) {
    pack_rows(args_.v + row * args_.v_row_stride + key_head_ * width_, args_.v_row_stride, n, width_, scratch_.keys);
    rows_to_key_lanes(scratch_.keys, n, padded_, scratch_.value_lanes);
    pack_rows(args_.k + row * args_.k_row_stride + key_head_ * width_, args_.k_row_stride, n, width_, scratch_.keys);
    rows_to_key_lanes(scratch_.keys, n, padded_, scratch_.key_lanes);
    std::fill_n(scratch_.dk, kKeyBlock * padded_, 0.0f);
    std::fill_n(scratch_.dv, kKeyBlock * padded_, 0.0f);
  }

  void store_block(const KeyGradients& out, int64_t row, int64_t n) const {
    const size_t bytes = static_cast<size_t>(width_) * sizeof(float);
    for (int64_t j = 0; j < n; ++j) {
      std::memcpy(out.dk + (row + j) * out.dk_row_stride + key_head_ * width_, scratch_.dk + j * padded_, bytes);
      std::memcpy(out.dv + (row + j) * out.dv_row_stride + key_head_ * width_, scratch_.dv + j * padded_, bytes);
    }
  }

  void add_sequence(int64_t sequence, int64_t count, int64_t key) {
    const int64_t rows = args_.queries * group_;
    for (int64_t tile = 0; tile < rows; tile += kTileRows) add_tile(sequence, tile, std::min(kTileRows, rows - tile), count, key);
  }

  void add_tile(int64_t sequence, int64_t tile, int64_t rows, int64_t count, int64_t key) {
    const float *q[kTileRows], *dy[kTileRows];
    Seen seen{};
    for (int64_t r = 0; r < kTileRows; ++r) {
      const int64_t row = tile + (r < rows ? r : 0);
      q[r] = args_.q + at(sequence, row, args_.q_row_stride);
      dy[r] = args_.dy + at(sequence, row, args_.dy_row_stride);
      if (r < rows) seen.keys[r] = std::clamp<int64_t>(seen_keys(args_, query_of(row), count) - key, 0, kKeyBlock);
    }
    if (seen.most() == 0) return;
    multiply_by_keys(q, width_, scratch_.key_lanes, padded_, seen.most(), scratch_.ds);
    multiply_by_keys(dy, width_, scratch_.value_lanes, padded_, seen.most(), scratch_.pw);
    pack_rows_of_tile(q, scratch_.q);
    pack_rows_of_tile(dy, scratch_.dy);
    std::fill_n(scratch_.dq, kTileRows * padded_, 0.0f);
    for (int64_t r = 0; r < rows; ++r) {
      if (seen.keys[r] > 0) gradient_of_scores(sequence, tile + r, r, seen.keys[r], key);
    }
    add_to_keys(scratch_.pw, seen, scratch_.dy, padded_, scratch_.dv);
    add_to_keys(scratch_.ds, seen, scratch_.q, padded_, scratch_.dk);
    add_rows(scratch_.ds, seen, scratch_.keys, padded_, scratch_.dq);
    for (int64_t r = 0; r < rows; ++r) {
      float* dq = args_.dq + at(sequence, tile + r, args_.dq_row_stride);
      for (int64_t c = 0; c < width_; c += kLanes) {
        const int64_t lanes = std::min<int64_t>(kLanes, width_ - c);
        store_first(F32(), hn::Add(load_first(F32(), dq + c, lanes), hn::Load(F32(), scratch_.dq + r * padded_ + c)), dq + c, lanes);
      }
    }
  }

  void pack_rows_of_tile(const float* const (&from)[kTileRows], float* to) const {
    for (int64_t r = 0; r < kTileRows; ++r) {
      std::memcpy(to + r * padded_, from[r], static_cast<size_t>(width_) * sizeof(float));
      std::memset(to + r * padded_ + width_, 0, static_cast<size_t>(padded_ - width_) * sizeof(float));
    }
  }

  // <dy, y> of a row, whose dy is in the tile.
  float dot_with_y(int64_t sequence, int64_t row, int64_t r) const {
    const F32 d;
    const float* y = args_.y + at(sequence, row, args_.y_row_stride);
    VecF32 sum = hn::Zero(d);
    for (int64_t c = 0; c < width_; c += kLanes)
      sum = hn::MulAdd(hn::Load(d, scratch_.dy + r * padded_ + c), load_first(d, y + c, std::min<int64_t>(kLanes, width_ - c)), sum);
    return hn::GetLane(hn::SumOfLanes(d, sum));
  }

  // <q, k> and <dy, v> of a row become ds and p w.
  void gradient_of_scores(int64_t sequence, int64_t row, int64_t r, int64_t seen, int64_t key) const {
    const F32 d;
    const VecF32 scale = hn::Set(d, args_.scale), dot = hn::Set(d, dot_with_y(sequence, row, r));
    const VecF32 log_sum =
        hn::Set(d, args_.log_sum[(sequence * args_.queries + query_of(row)) * args_.heads + key_head_ * group_ + row % group_]);
    const float* weights = args_.key_weights == nullptr ? nullptr : args_.key_weights + sequence * args_.key_weights_row_stride + key;
    float *ds = scratch_.ds + r * kKeyBlock, *pw = scratch_.pw + r * kKeyBlock;
    for (int64_t j = 0; j < seen; j += kLanes) {
      const VecF32 p = exp(d, hn::MulSub(hn::Load(d, ds + j), scale, log_sum));
      const VecF32 w = weights == nullptr ? hn::Set(d, 1.0f) : load_first(d, weights + j, std::min<int64_t>(kLanes, seen - j));
      hn::Store(hn::Mul(hn::Mul(p, scale), hn::Sub(hn::Mul(w, hn::Load(d, pw + j)), dot)), d, ds + j);
      hn::Store(hn::Mul(p, w), d, pw + j);
    }
  }

  const cudamoe_attention_backward_args& args_;
  const BackwardScratch& scratch_;
  FirstOffender& bad_;
  int64_t key_head_, group_, width_, padded_;
};

void attend_back(const cudamoe_attention_backward_args& args, const BackwardScratch& scratch, int32_t key_head, int64_t first,
                 int64_t sequences, const KeyGradients* shared, FirstOffender& bad) {
  AttentionBackward backward(args, scratch, key_head, bad);
  if (shared != nullptr) {
    backward.shared(first, sequences, *shared);
  } else {
    backward.separate(first, sequences);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(attend_back);

namespace {

// Sums of the blocks of sequences for shared keys, behind the workers' scratch: [blocks][{dk, dv}][keys][key_heads * head_width].
class Partials {
 public:
  Partials(const cudamoe_attention_backward_args& args, int64_t blocks, float* memory)
      : memory_(memory), blocks_(blocks), width_(int64_t{args.key_heads} * args.head_width), elements_(args.keys * width_) {}

  int64_t bytes() const { return blocks_ * 2 * elements_ * static_cast<int64_t>(sizeof(float)); }
  KeyGradients of(int64_t block) const {
    float* dk = memory_ + block * 2 * elements_;
    return {dk, dk + elements_, width_, width_};
  }

  // Row `key` of dk or dv: the sum over the blocks.
  void sum_row(int which, int64_t key, float* out) const {
    for (int64_t c = 0; c < width_; ++c) {
      double total = 0;
      for (int64_t b = 0; b < blocks_; ++b) total += static_cast<double>(memory_[(2 * b + which) * elements_ + key * width_ + c]);
      out[c] = static_cast<float>(total);
    }
  }

 private:
  float* memory_;
  int64_t blocks_, width_, elements_;
};

int64_t scratch_bytes(const Device& device, const cudamoe_attention_backward_args& args) {
  return device.threads() * BackwardScratch::bytes(padded_width(args.head_width));
}

}  // namespace

int64_t attention_backward_workspace(void* handle, const cudamoe_attention_backward_args& args) {
  const int64_t scratch = scratch_bytes(stream_of(handle).device(), args);
  return args.shared_keys != 0 ? scratch + Partials(args, sequence_blocks(args).count, nullptr).bytes() : scratch;
}

cudamoe_status attention_backward(void* handle, const cudamoe_attention_backward_args& args) {
  Stream& stream = stream_of(handle);
  if (is_by_columns(args)) {
    column_attention_backward(stream, args);
    return CUDAMOE_OK;
  }
  Device& device = stream.device();
  const bool is_shared = args.shared_keys != 0;
  const SequenceBlocks blocks = sequence_blocks(args);
  const Partials partials(args, blocks.count, reinterpret_cast<float*>(static_cast<char*>(args.workspace) + scratch_bytes(device, args)));
  FirstOffender bad;
  device.for_tiles(blocks.count * args.key_heads, attention_cost(args, 5), [&](int64_t task, int worker) {
    const int64_t first = blocks.first(task, args.key_heads);
    const BackwardScratch scratch(args.workspace, worker, padded_width(args.head_width));
    const KeyGradients partial = is_shared ? partials.of(task / args.key_heads) : KeyGradients{};
    HWY_DYNAMIC_DISPATCH(attend_back)
    (args, scratch, static_cast<int32_t>(task % args.key_heads), first, std::min(blocks.size, args.sequences - first),
     is_shared ? &partial : nullptr, bad);
  });
  if (is_shared) {
    const double cost = static_cast<double>(blocks.count * args.keys * args.key_heads) * args.head_width;
    device.for_tiles(2 * args.keys, cost, [&](int64_t tile) {
      const int64_t key = tile / 2;
      if (tile % 2 == 0) {
        partials.sum_row(0, key, args.dk + key * args.dk_row_stride);
      } else {
        partials.sum_row(1, key, args.dv + key * args.dv_row_stride);
      }
    });
  }
  report_key_count(stream, "cudamoe_attention_backward", args, bad);
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
