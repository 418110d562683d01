// What the files of the attention family share: the entries, how sequences are cut into tasks, and the work space.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/common/first_offender.h"
#include "cpu/device.h"

namespace cudamoe::cpu {

int64_t attention_forward_workspace(void* stream, const cudamoe_attention_forward_args& args);
cudamoe_status attention_forward(void* stream, const cudamoe_attention_forward_args& args);
int64_t attention_backward_workspace(void* stream, const cudamoe_attention_backward_args& args);
cudamoe_status attention_backward(void* stream, const cudamoe_attention_backward_args& args);
// The same where a lane can be a head: heads of one column, each with its own key head, and keys that are not shared.
template <class Args>
bool is_by_columns(const Args& args) {
  return args.head_width == 1 && args.heads == args.key_heads && args.shared_keys == 0;
}
void column_attention_forward(Stream& stream, const cudamoe_attention_forward_args& args);
void column_attention_backward(Stream& stream, const cudamoe_attention_backward_args& args);
int64_t rotary_workspace(void* stream, const cudamoe_rotary_args& args);
cudamoe_status rotary(void* stream, const cudamoe_rotary_args& args);
cudamoe_status sequence_maximum_forward(void* stream, const cudamoe_sequence_maximum_forward_args& args);
cudamoe_status sequence_maximum_backward(void* stream, const cudamoe_sequence_maximum_backward_args& args);

// Keys are taken in blocks of this many, rows (a query and a head) in tiles.
inline constexpr int64_t kKeyBlock = 64;
inline constexpr int64_t kTileRows = 4;

// Head widths are padded to whole vectors of any level.
inline int64_t padded_width(int32_t head_width) { return (int64_t{head_width} + 15) / 16 * 16; }

// One task is some sequences and one key head.
struct SequenceBlocks {
  int64_t size, count;

  int64_t first(int64_t task, int32_t key_heads) const { return task / key_heads * size; }
};

// Enough arithmetic for a thread to take; fixed by the shape, as are the partial sums of shared keys. At most kMost of those.
template <class Args>
SequenceBlocks sequence_blocks(const Args& args) {
  constexpr double kWorthwhile = 5e5;
  constexpr int64_t kMost = 64;
  const double each = 4.0 * static_cast<double>(args.queries) * static_cast<double>(std::max<int64_t>(args.keys, 1)) *
                      (static_cast<double>(args.heads) / args.key_heads) * args.head_width;
  int64_t size = std::max<int64_t>(1, static_cast<int64_t>(std::min(kWorthwhile / std::max(each, 1.0), 1e6)));
  if (args.shared_keys != 0) size = std::max(size, (args.sequences + kMost - 1) / kMost);
  return {size, (args.sequences + size - 1) / size};
}

// Nanoseconds of all tasks: `products` multiply-adds for each pair of a row and a key and each column.
template <class Args>
double attention_cost(const Args& args, double products) {
  return 0.03 * products * static_cast<double>(args.sequences) * static_cast<double>(args.queries) * static_cast<double>(args.keys) *
         args.heads * args.head_width;
}

// The keys of a sequence; counts out of range are bounded, and their sequence noted.
template <class Args>
int64_t key_count(const Args& args, int64_t sequence, FirstOffender& bad) {
  if (args.key_counts == nullptr) return args.keys;
  const int64_t count = args.key_counts[sequence];
  if (count < 0 || count > args.keys) bad.note(sequence);
  return std::clamp<int64_t>(count, 0, args.keys);
}

// Keys that a query sees, of the sequence's `count`.
template <class Args>
int64_t seen_keys(const Args& args, int64_t query, int64_t count) {
  return args.causal == 0 ? count : std::clamp<int64_t>(query + args.keys - args.queries + 1, 0, count);
}

template <class Args>
void report_key_count(Stream& stream, const char* function, const Args& args, const FirstOffender& bad) {
  if (bad.index() < 0) return;
  stream.report("%s: key_counts[%lld] is %d; it must be 0 to keys, %lld", function, static_cast<long long>(bad.index()),
                args.key_counts[bad.index()], static_cast<long long>(args.keys));
}

}  // namespace cudamoe::cpu
