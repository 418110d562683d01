// Checks of the logit of a product of probabilities.
#include "core/abi.h"

namespace cudamoe {
namespace {

struct Column {
  const char* field;
  const float* data;
  const char* stride_field;
  int64_t stride;
};

void check_column(Check& check, const Column& column, int64_t rows) {
  check.data(column.field, column.data, alignof(float), rows).stride(column.stride_field, column.stride, 1, rows);
}

template <class Args>
void check_inputs(Check& check, const Args& args) {
  check.zero("reserved", args.reserved).count("rows", args.rows);
  check_column(check, {"a", args.a, "a_stride", args.a_stride}, args.rows);
  check_column(check, {"b", args.b, "b_stride", args.b_stride}, args.rows);
}

// Columns of one matrix may lie between each other, so only equal pointers are certain to be wrong.
void check_apart(Check& check, const char* field, const float* data, const char* other, const float* other_data, int64_t rows) {
  check.require(data != other_data || rows == 0, "%s is %s; they must be apart", field, other);
}

void check_forward(Check& check, const cudamoe_joint_logits_forward_args& args, const cudamoe_stream*) {
  check_inputs(check, args);
  check_column(check, {"joint", args.joint, "joint_stride", args.joint_stride}, args.rows);
  check_apart(check, "joint", args.joint, "a", args.a, args.rows);
  check_apart(check, "joint", args.joint, "b", args.b, args.rows);
}

void check_backward(Check& check, const cudamoe_joint_logits_backward_args& args, const cudamoe_stream*) {
  check.flag("accumulate_a", args.accumulate_a).flag("accumulate_b", args.accumulate_b);
  check_inputs(check, args);
  check_column(check, {"djoint", args.djoint, "djoint_stride", args.djoint_stride}, args.rows);
  check_column(check, {"da", args.da, "da_stride", args.da_stride}, args.rows);
  check_column(check, {"db", args.db, "db_stride", args.db_stride}, args.rows);
  check_apart(check, "da", args.da, "db", args.db, args.rows);
  for (const auto& [field, out] : {std::pair{"da", args.da}, std::pair{"db", args.db}}) {
    check_apart(check, field, out, "a", args.a, args.rows);
    check_apart(check, field, out, "b", args.b, args.rows);
  }
  if (args.rows == 0) return;
  check.require(args.djoint != args.da || args.djoint_stride == args.da_stride,
                "djoint is da, but djoint_stride is %lld and da_stride %lld", static_cast<long long>(args.djoint_stride),
                static_cast<long long>(args.da_stride));
  check.require(args.djoint != args.db || args.djoint_stride == args.db_stride,
                "djoint is db, but djoint_stride is %lld and db_stride %lld", static_cast<long long>(args.djoint_stride),
                static_cast<long long>(args.db_stride));
}

}  // namespace
}  // namespace cudamoe

using namespace cudamoe;

extern "C" {

cudamoe_status cudamoe_joint_logits_forward(cudamoe_stream* stream, const cudamoe_joint_logits_forward_args* args) {
  return run_operation("cudamoe_joint_logits_forward", stream, args, &Backend::joint_logits_forward, check_forward);
}

cudamoe_status cudamoe_joint_logits_backward(cudamoe_stream* stream, const cudamoe_joint_logits_backward_args* args) {
  return run_operation("cudamoe_joint_logits_backward", stream, args, &Backend::joint_logits_backward, check_backward);
}

}  // extern "C"
