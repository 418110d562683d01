// What kernels with CUDAMOE_PLAIN call, for the executor. Compiled without it.
#include <cmath>

#include "common/math.cuh"

extern "C" double cudamoe_transcendental(int32_t function, double x, double y) {
  using namespace cudamoe;
  switch (static_cast<kernels::Transcendental>(function)) {
    case kernels::Transcendental::kExp:
      return std::exp(x);
    case kernels::Transcendental::kLog:
      return std::log(x);
    case kernels::Transcendental::kLog1p:
      return std::log1p(x);
    case kernels::Transcendental::kExpm1:
      return std::expm1(x);
    case kernels::Transcendental::kTanh:
      return std::tanh(x);
    case kernels::Transcendental::kErf:
      return std::erf(x);
    case kernels::Transcendental::kErfc:
      return std::erfc(x);
    case kernels::Transcendental::kSinPi:
      return kernels::sin_pi(x);
    case kernels::Transcendental::kCosPi:
      return kernels::cos_pi(x);
    case kernels::Transcendental::kPow:
      return std::pow(x, y);
  }
  return NAN;
}
