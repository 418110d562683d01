// Checks of rotary positions.
#include "core/abi.h"
#include "core/attention/limits.h"

namespace cudamoe {
namespace {

// Positions are exact in f32.
constexpr int64_t kMaxPosition = 1 << 24;

void check_shape(Check& check, const cudamoe_rotary_args& args) {
  check.zero("reserved", args.reserved).flag("interleaved", args.interleaved).flag("inverse", args.inverse);
  check.range("heads", args.heads, 1, kMaxAttentionHeads).range("head_width", args.head_width, 1, CUDAMOE_MAX_HEAD_WIDTH);
  check.range("rotary_width", args.rotary_width, 0, args.head_width).count("rows", args.rows);
  check.range("positions", args.positions, 1, kMaxPosition).range("first_position", args.first_position, 0, kMaxPosition);
  check.require(args.rotary_width % 2 == 0, "rotary_width is %d; it must be even", args.rotary_width);
  check.require(!check.ok() || args.first_position + args.positions <= kMaxPosition,
                "first_position is %lld and positions is %lld; their sum must be at most %lld", static_cast<long long>(args.first_position),
                static_cast<long long>(args.positions), static_cast<long long>(kMaxPosition));
}

void check_arguments(Check& check, const cudamoe_rotary_args& args, const cudamoe_stream* stream) {
  check_shape(check, args);
  check.require(!check.ok() || args.base > 0, "base is %g; it must be greater than 0", static_cast<double>(args.base));
  check.real("base", args.base, 0, std::numeric_limits<float>::max());
  check.data("x", args.x, alignof(float), args.rows);
  check.stride("x_row_stride", args.x_row_stride, int64_t{args.heads} * args.head_width, args.rows);
  if (check.ok()) check.workspace(args.workspace, args.workspace_bytes, needed_bytes(stream, &Backend::rotary_workspace, args));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_rotary_workspace(cudamoe_stream* stream, const cudamoe_rotary_args* args, int64_t* bytes) {
  return run_query("cudamoe_rotary_workspace", stream, args, bytes, &Backend::rotary_workspace, check_shape);
}

cudamoe_status cudamoe_rotary(cudamoe_stream* stream, const cudamoe_rotary_args* args) {
  return run_operation("cudamoe_rotary", stream, args, &Backend::rotary, check_arguments);
}

}  // extern "C"
