// What is common to the kernels that read ids and offsets.
//
// An id outside its table contributes nothing (and is counted) or reads row 0, as `clamp` says. Offsets that do not ascend from 0 to at
// most `lookups` make bags that mean nothing, or that share look-ups: the whole feature is then left out.
#pragma once

#include "common/kernel.cuh"
#include "embedding/embedding.h"

namespace cudamoe::kernels {

CUDAMOE_DEVICE bool left_out(const EmbeddingBatch& batch, const EmbeddingBags& bags, int f) {
  return bags.offsets != nullptr && batch.bad_offset[f] != 0;
}

inline constexpr int32_t kBadRow = -1;
inline constexpr int32_t kNoRow = -2;

// The row that an id reads, or kBadRow.
CUDAMOE_DEVICE int32_t row_of_id(const EmbeddingBatch& batch, const EmbeddingBags& bags, int32_t id) {
  return id >= 0 && id < bags.rows ? id : batch.clamp != 0 ? 0 : kBadRow;
}

// Which of several is noted first cannot be seen.
CUDAMOE_DEVICE void note_bad_id(const EmbeddingBatch& batch, const EmbeddingBags& bags, int64_t position) {
  atomic_add(&batch.findings->bad_ids, uint64_t{1});
  atomic_max(&batch.findings->first_id, ~(static_cast<uint64_t>(bags.index) << 32 | static_cast<uint64_t>(position)));
}

}  // namespace cudamoe::kernels
