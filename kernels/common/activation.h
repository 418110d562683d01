// The activations, by the numbers of cudamoe.h.
#pragma once

#include <cstdint>

namespace cudamoe::kernels {

enum class Activation : int32_t { kNone, kRelu, kLeakyRelu, kGelu, kSilu, kSigmoid, kTanh };

}  // namespace cudamoe::kernels
