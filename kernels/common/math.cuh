// Arithmetic whose result is stated: each function is one rounding, or the number of units in the last place (ulp) that it may be off.
//
// The compiler contracts nothing (nvcc -fmad=false): a * b + c is two roundings, fma(a, b, c) is one, on both sides. Nothing is flushed to
// zero.
#pragma once

#include <cmath>

#include "common/target.cuh"

namespace cudamoe::kernels {

#if defined(__CUDACC__)

CUDAMOE_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
CUDAMOE_DEVICE float float_of_bits(uint32_t bits) { return __uint_as_float(bits); }
CUDAMOE_DEVICE int count_ones(uint32_t bits) { return __popc(bits); }

#else

CUDAMOE_DEVICE uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
CUDAMOE_DEVICE float float_of_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
CUDAMOE_DEVICE int count_ones(uint32_t bits) { return __builtin_popcount(bits); }

#endif

CUDAMOE_DEVICE float infinity() { return float_of_bits(0x7F800000u); }
CUDAMOE_DEVICE float quiet_nan() { return float_of_bits(0x7FC00000u); }

// One rounding.
CUDAMOE_DEVICE float fma(float a, float b, float c) {
#if !defined(__CUDACC__)
  simt::count_operations(2);
#endif
  return ::fmaf(a, b, c);
}
CUDAMOE_DEVICE double fma(double a, double b, double c) { return ::fma(a, b, c); }
CUDAMOE_DEVICE float sqrt(float x) { return ::sqrtf(x); }
CUDAMOE_DEVICE double sqrt(double x) { return ::sqrt(x); }
CUDAMOE_DEVICE float abs(float x) { return ::fabsf(x); }
CUDAMOE_DEVICE float floor(float x) { return ::floorf(x); }
// The larger, the smaller; of a number and a NaN the number.
CUDAMOE_DEVICE float max(float a, float b) { return ::fmaxf(a, b); }
CUDAMOE_DEVICE float min(float a, float b) { return ::fminf(a, b); }

// The functions below by the numbers that they have where one external function computes them (CUDAMOE_PLAIN).
enum class Transcendental : int32_t { kExp, kLog, kLog1p, kExpm1, kTanh, kErf, kErfc, kSinPi, kCosPi, kPow };

#if defined(CUDAMOE_PLAIN)

}  // namespace cudamoe::kernels

#if defined(__CUDACC__)
extern "C" __device__ double cudamoe_transcendental(int32_t function, double x, double y);
#else
extern "C" double cudamoe_transcendental(int32_t function, double x, double y);
#endif

namespace cudamoe::kernels {

// y counts for kPow only.
CUDAMOE_DEVICE double transcendental(Transcendental function, double x, double y = 0) {
  return cudamoe_transcendental(static_cast<int32_t>(function), x, y);
}
CUDAMOE_DEVICE float transcendental(Transcendental function, float x) {
  return static_cast<float>(transcendental(function, static_cast<double>(x)));
}
CUDAMOE_DEVICE float exp(float x) { return transcendental(Transcendental::kExp, x); }
CUDAMOE_DEVICE float log(float x) { return transcendental(Transcendental::kLog, x); }
CUDAMOE_DEVICE float log1p(float x) { return transcendental(Transcendental::kLog1p, x); }
CUDAMOE_DEVICE float tanh(float x) { return transcendental(Transcendental::kTanh, x); }
CUDAMOE_DEVICE float erf(float x) { return transcendental(Transcendental::kErf, x); }
CUDAMOE_DEVICE float erfc(float x) { return transcendental(Transcendental::kErfc, x); }
CUDAMOE_DEVICE float sin_pi(float x) { return transcendental(Transcendental::kSinPi, x); }
CUDAMOE_DEVICE float cos_pi(float x) { return transcendental(Transcendental::kCosPi, x); }
CUDAMOE_DEVICE double sin_pi(double x) { return transcendental(Transcendental::kSinPi, x); }
CUDAMOE_DEVICE double cos_pi(double x) { return transcendental(Transcendental::kCosPi, x); }
CUDAMOE_DEVICE double log(double x) { return transcendental(Transcendental::kLog, x); }
CUDAMOE_DEVICE double pow(double x, double y) { return transcendental(Transcendental::kPow, x, y); }
CUDAMOE_DEVICE double expm1(double x) { return transcendental(Transcendental::kExpm1, x); }

#else

// At most 2 ulp.
CUDAMOE_DEVICE float exp(float x) { return ::expf(x); }
CUDAMOE_DEVICE float log(float x) { return ::logf(x); }
CUDAMOE_DEVICE float log1p(float x) { return ::log1pf(x); }
CUDAMOE_DEVICE float tanh(float x) { return ::tanhf(x); }
CUDAMOE_DEVICE float erf(float x) { return ::erff(x); }
// The sine and cosine of pi x, exact where x is a multiple of a half.
#if defined(__CUDACC__)
CUDAMOE_DEVICE float sin_pi(float x) { return ::sinpif(x); }
CUDAMOE_DEVICE float cos_pi(float x) { return ::cospif(x); }
CUDAMOE_DEVICE double sin_pi(double x) { return ::sinpi(x); }
CUDAMOE_DEVICE double cos_pi(double x) { return ::cospi(x); }
#else
namespace detail {

// sin(pi (x + quarter_turns / 2)). What is left of x behind its nearest multiple of a half is exact, and at most a quarter.
inline double sin_of_turns(double x, int quarter_turns) {
  constexpr double kPi = 3.14159265358979323846;
  const double turn = std::remainder(x, 2.0), halves = std::nearbyint(2.0 * turn), rest = turn - halves / 2.0;
  if (rest != rest) return rest;
  const int quadrant = (static_cast<int>(halves) + quarter_turns) & 3;
  const double value = quadrant % 2 == 0 ? std::sin(kPi * rest) : std::cos(kPi * rest);
  return quadrant < 2 ? value : -value;
}

}  // namespace detail

CUDAMOE_DEVICE float sin_pi(float x) { return static_cast<float>(detail::sin_of_turns(static_cast<double>(x), 0)); }
CUDAMOE_DEVICE float cos_pi(float x) { return static_cast<float>(detail::sin_of_turns(static_cast<double>(x), 1)); }
CUDAMOE_DEVICE double sin_pi(double x) { return detail::sin_of_turns(x, 0); }
CUDAMOE_DEVICE double cos_pi(double x) { return detail::sin_of_turns(x, 1); }
#endif
CUDAMOE_DEVICE double log(double x) { return ::log(x); }
CUDAMOE_DEVICE double expm1(double x) { return ::expm1(x); }
CUDAMOE_DEVICE double pow(double x, double y) { return ::pow(x, y); }
// At most 4 ulp.
CUDAMOE_DEVICE float erfc(float x) { return ::erfcf(x); }

#endif

CUDAMOE_DEVICE bool is_nan(float x) { return x != x; }
CUDAMOE_DEVICE bool is_nan(double x) { return x != x; }
CUDAMOE_DEVICE bool is_finite(float x) { return (bits_of(x) & 0x7F800000u) != 0x7F800000u; }
CUDAMOE_DEVICE bool is_finite(double x) { return x - x == 0; }

template <class T>
CUDAMOE_HOST_DEVICE T ceil_divide(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace cudamoe::kernels
