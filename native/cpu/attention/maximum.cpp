// The maximum of each column over the positions of a sequence, and the position that its gradient goes to.
//
// Floor: forward x read once, y and places written once; backward dy and places read once, dx written once.
// Tiling: a lane is a column; a task is some sequences, all columns. Positions ascending.
#include <algorithm>

#include "cpu/attention/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention/maximum.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/common/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cudamoe::cpu {
namespace HWY_NAMESPACE {

using I32 = hn::RebindToSigned<F32>;

void take_maxima(const cudamoe_sequence_maximum_forward_args& args, int64_t sequence, int64_t count) {
  const F32 d;
  const I32 di;
  const float* x = args.x + sequence * args.positions * args.x_row_stride;
  for (int64_t c = 0; c < args.width; c += kLanes) {
    const int64_t lanes = std::min<int64_t>(kLanes, args.width - c);
    VecF32 most = count > 0 ? load_first(d, x + c, lanes) : hn::Zero(d);
    auto place = hn::Set(di, count > 0 ? 0 : -1);
    for (int64_t p = 1; p < count; ++p) {
      const VecF32 value = load_first(d, x + p * args.x_row_stride + c, lanes);
      // A NaN is above every number, and stays.
      const auto above = hn::AndNot(hn::IsNaN(most), hn::Or(hn::Gt(value, most), hn::IsNaN(value)));
      most = hn::IfThenElse(above, value, most);
      place = hn::IfThenElse(hn::RebindMask(di, above), hn::Set(di, static_cast<int32_t>(p)), place);
    }
    store_first(d, most, args.y + sequence * args.y_row_stride + c, lanes);
    if (args.places == nullptr) continue;
    store_first(d, hn::BitCast(d, place), reinterpret_cast<float*>(args.places) + sequence * args.width + c, lanes);
  }
}

void give_gradients(const cudamoe_sequence_maximum_backward_args& args, int64_t sequence) {
  const F32 d;
  const I32 di;
  float* dx = args.dx + sequence * args.positions * args.dx_row_stride;
  for (int64_t c = 0; c < args.width; c += kLanes) {
    const int64_t lanes = std::min<int64_t>(kLanes, args.width - c);
    const VecF32 dy = load_first(d, args.dy + sequence * args.dy_row_stride + c, lanes);
    const auto place = hn::BitCast(di, load_first(d, reinterpret_cast<const float*>(args.places) + sequence * args.width + c, lanes));
    for (int64_t p = 0; p < args.positions; ++p) {
      const auto here = hn::RebindMask(d, hn::Eq(place, hn::Set(di, static_cast<int32_t>(p))));
      store_first(d, hn::IfThenElseZero(here, dy), dx + p * args.dx_row_stride + c, lanes);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cudamoe::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace cudamoe::cpu {

HWY_EXPORT(take_maxima);
HWY_EXPORT(give_gradients);

namespace {

constexpr int64_t kTaskNumbers = 16384;
constexpr double kNanosecondsANumber = 0.2;

// Some sequences at once, fixed by the shape.
template <class Args, class Body>
void for_sequences(Stream& stream, const Args& args, const Body& body) {
  const int64_t numbers = std::max<int64_t>(1, args.positions * args.width);
  const int64_t at_once = std::max<int64_t>(1, kTaskNumbers / numbers);
  const double cost = kNanosecondsANumber * static_cast<double>(args.sequences) * static_cast<double>(numbers);
  stream.device().for_tiles((args.sequences + at_once - 1) / at_once, cost, [&](int64_t task) {
    const int64_t last = std::min(args.sequences, (task + 1) * at_once);
    for (int64_t sequence = task * at_once; sequence < last; ++sequence) body(sequence);
  });
}

}  // namespace

cudamoe_status sequence_maximum_forward(void* handle, const cudamoe_sequence_maximum_forward_args& args) {
  if (args.width == 0) return CUDAMOE_OK;
  Stream& stream = stream_of(handle);
  FirstOffender bad;
  for_sequences(stream, args, [&](int64_t sequence) {
    int64_t count = args.positions;
    if (args.counts != nullptr) {
      const int64_t given = args.counts[sequence];
      if (given < 0 || given > args.positions) bad.note(sequence);
      count = std::clamp<int64_t>(given, 0, args.positions);
    }
    HWY_DYNAMIC_DISPATCH(take_maxima)(args, sequence, count);
  });
  if (bad.index() >= 0) {
    stream.report("cudamoe_sequence_maximum_forward: counts[%lld] is %d; it must be 0 to positions, %lld",
                  static_cast<long long>(bad.index()), args.counts[bad.index()], static_cast<long long>(args.positions));
  }
  return CUDAMOE_OK;
}

cudamoe_status sequence_maximum_backward(void* handle, const cudamoe_sequence_maximum_backward_args& args) {
  if (args.positions == 0 || args.width == 0) return CUDAMOE_OK;
  for_sequences(stream_of(handle), args, [&](int64_t sequence) { HWY_DYNAMIC_DISPATCH(give_gradients)(args, sequence); });
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu

#endif  // HWY_ONCE
