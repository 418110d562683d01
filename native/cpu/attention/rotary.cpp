// Rotary positions (Su et al. 2021): pairs of columns of each head turn by an angle that grows with the row's position.
//
//   (a, b) -> (a cos t - b sin t, a sin t + b cos t),  t = position * base^(-2 i / rotary_width) for the i-th pair
//
// Floor: x read and written once. Sines and cosines are made once a call, in f64, as [position][pair] in the work space. Tiling: blocks of
// rows. No sums.
#include <cmath>

#include "core/attention/limits.h"
#include "cpu/attention/attention.h"

namespace cudamoe::cpu {
namespace {

constexpr int64_t kBlockRows = 32;

struct Turn {
  float cosine, sine;
};

// What a turn of one row needs.
struct Rotation {
  int32_t heads, head_width;
  int64_t pairs;
  int64_t next_pair, partner;  // columns between the first members of two pairs, and between the members of one

  void apply(const Turn* turns, float* row) const {
    for (int32_t h = 0; h < heads; ++h) {
      float* head = row + int64_t{h} * head_width;
      for (int64_t i = 0; i < pairs; ++i) {
        const float a = head[i * next_pair], b = head[i * next_pair + partner];
        head[i * next_pair] = a * turns[i].cosine - b * turns[i].sine;
        head[i * next_pair + partner] = a * turns[i].sine + b * turns[i].cosine;
      }
    }
  }
};

}  // namespace

int64_t rotary_workspace(void*, const cudamoe_rotary_args& args) {
  return used_positions(args) * (args.rotary_width / 2) * static_cast<int64_t>(sizeof(Turn));
}

cudamoe_status rotary(void* handle, const cudamoe_rotary_args& args) {
  Device& device = stream_of(handle).device();
  const int64_t pairs = args.rotary_width / 2, positions = used_positions(args);
  if (pairs == 0) return CUDAMOE_OK;
  auto* turns = static_cast<Turn*>(args.workspace);
  const double direction = args.inverse != 0 ? -1 : 1;
  constexpr double kNanosecondsATurn = 40;
  device.for_tiles(positions, kNanosecondsATurn * static_cast<double>(positions * pairs), [&](int64_t position) {
    for (int64_t i = 0; i < pairs; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / args.rotary_width;
      const double angle = static_cast<double>(args.first_position + position) * std::pow(static_cast<double>(args.base), exponent);
      turns[position * pairs + i] = {static_cast<float>(std::cos(angle)), static_cast<float>(direction * std::sin(angle))};
    }
  });
  const Rotation rotation{args.heads, args.head_width, pairs, args.interleaved != 0 ? 2 : 1, args.interleaved != 0 ? 1 : pairs};
  const double cost = static_cast<double>(args.rows) * args.heads * static_cast<double>(pairs);
  device.for_tiles((args.rows + kBlockRows - 1) / kBlockRows, cost, [&](int64_t tile) {
    for (int64_t row = tile * kBlockRows; row < std::min(args.rows, (tile + 1) * kBlockRows); ++row)
      rotation.apply(turns + row % args.positions * pairs, args.x + row * args.x_row_stride);
  });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
