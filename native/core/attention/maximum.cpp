// Checks of maxima over sequences.
#include "core/abi.h"
#include "core/matrix.h"

namespace cudamoe {
namespace {

template <class Args>
void check_shape(Check& check, const Args& args) {
  check.zero("reserved", args.reserved).count("sequences", args.sequences).count("width", args.width);
  check.range("positions", args.positions, 0, std::numeric_limits<int32_t>::max());
  if (!check.ok()) return;
  const int64_t rows = checked_product(args.sequences, args.positions);
  check.require(
      rows != kOverflow && checked_product(rows, args.width) != kOverflow && checked_product(args.sequences, args.width) != kOverflow,
      "sequences is %lld, positions is %lld and width is %lld; the rows exceed the address space", static_cast<long long>(args.sequences),
      static_cast<long long>(args.positions), static_cast<long long>(args.width));
}

// Rows of width 0 may have a null pointer.
Matrix rows_of(const char* field, const float* data, const char* stride_field, int64_t stride, int64_t rows, int64_t width) {
  return {field, data, stride_field, stride, width > 0 ? rows : 0, width};
}

template <class Args>
int64_t place_bytes(const Args& args) {
  return args.sequences * args.width * static_cast<int64_t>(sizeof(int32_t));
}

void check_forward(Check& check, const cudamoe_sequence_maximum_forward_args& args, const cudamoe_stream*) {
  check_shape(check, args);
  if (!check.ok()) return;
  const Matrix x = rows_of("x", args.x, "x_row_stride", args.x_row_stride, args.sequences * args.positions, args.width);
  const Matrix y = rows_of("y", args.y, "y_row_stride", args.y_row_stride, args.sequences, args.width);
  check_matrix(check, x);
  check_matrix(check, y);
  check.optional("counts", args.counts, alignof(int32_t)).optional("places", args.places, alignof(int32_t));
  if (!check.ok()) return;
  check.disjoint("y", args.y, y.bytes(), "x", args.x, x.bytes())
      .disjoint("y", args.y, y.bytes(), "counts", args.counts, args.sequences * 4);
  check.disjoint("places", args.places, place_bytes(args), "x", args.x, x.bytes());
  check.disjoint("places", args.places, place_bytes(args), "y", args.y, y.bytes());
  check.disjoint("places", args.places, place_bytes(args), "counts", args.counts, args.sequences * 4);
}

void check_backward(Check& check, const cudamoe_sequence_maximum_backward_args& args, const cudamoe_stream*) {
  check_shape(check, args);
  if (!check.ok()) return;
  const Matrix dy = rows_of("dy", args.dy, "dy_row_stride", args.dy_row_stride, args.sequences, args.width);
  const Matrix dx = rows_of("dx", args.dx, "dx_row_stride", args.dx_row_stride, args.sequences * args.positions, args.width);
  check.data("places", args.places, alignof(int32_t), args.sequences * args.width);
  check_matrix(check, dy);
  check_matrix(check, dx);
  if (!check.ok()) return;
  check.disjoint("dx", args.dx, dx.bytes(), "dy", args.dy, dy.bytes());
  check.disjoint("dx", args.dx, dx.bytes(), "places", args.places, place_bytes(args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_sequence_maximum_forward(cudamoe_stream* stream, const cudamoe_sequence_maximum_forward_args* args) {
  return run_operation("cudamoe_sequence_maximum_forward", stream, args, &Backend::sequence_maximum_forward, check_forward);
}

cudamoe_status cudamoe_sequence_maximum_backward(cudamoe_stream* stream, const cudamoe_sequence_maximum_backward_args* args) {
  return run_operation("cudamoe_sequence_maximum_backward", stream, args, &Backend::sequence_maximum_backward, check_backward);
}

}  // extern "C"
