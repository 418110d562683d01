// What checks and backends of the attention family share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cudamoe.h"

namespace cudamoe {

inline constexpr int32_t kMaxAttentionHeads = 4096;

// Positions that rows have: no more than there are rows.
inline int64_t used_positions(const cudamoe_rotary_args& args) { return std::min(args.positions, args.rows); }

}  // namespace cudamoe
