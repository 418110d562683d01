// What a pair of a sample and a choice may be.
#pragma once

#include "core/check.h"

namespace cudamoe {

inline constexpr int32_t kMaxRoutedExperts = 65535;  // as many as a grouped product takes
inline constexpr int32_t kMaxChoices = 1 << 20;

inline void check_routed_pairs(Check& check, int32_t experts, int64_t samples, int32_t choices) {
  check.range("experts", experts, 1, kMaxRoutedExperts).count("samples", samples).range("choices", choices, 1, kMaxChoices);
  constexpr int64_t kMaxPairs = std::numeric_limits<int32_t>::max();
  check.require(!check.ok() || samples <= kMaxPairs / choices, "samples is %lld; samples * choices must be at most %lld",
                static_cast<long long>(samples), static_cast<long long>(kMaxPairs));
}

}  // namespace cudamoe
