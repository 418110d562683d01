// The optimizer functions of the ABI: the norm of all gradients, and one step of all dense tensors.
#include <algorithm>
#include <vector>

#include "core/abi.h"
#include "core/optimizer/step_numbers.h"

using namespace cudamoe;

namespace {

constexpr int64_t kMaxTensors = 1 << 20;

long long ll(int64_t value) { return static_cast<long long>(value); }

void check_tensors_shape(Check& check, int32_t tensor_count, const cudamoe_optimizer_tensor* tensors) {
  check.range("tensor_count", tensor_count, 0, kMaxTensors);
  check.require(tensors != nullptr || tensor_count == 0, "tensors is null; it must point to %d tensors on the host", tensor_count);
  check.optional("tensors", tensors, alignof(cudamoe_optimizer_tensor));
  int64_t total = 0;
  for (int32_t t = 0; check.ok() && t < tensor_count; ++t) {
    check.require(tensors[t].count >= 0 && tensors[t].count <= kMaxCount,
                  "tensors[%d].count is %lld; it must be at least 0 and at most %lld", t, ll(tensors[t].count), ll(kMaxCount));
    if (!check.ok()) return;
    total += tensors[t].count;
    check.require(total <= kMaxCount, "the tensors have more than %lld elements together", ll(kMaxCount));
  }
}

void check_tensor_pointer(Check& check, int32_t t, const char* field, const void* pointer, int64_t count) {
  check.require(pointer != nullptr || count == 0, "tensors[%d].%s is null; it must point to device memory", t, field);
  check.require(reinterpret_cast<uintptr_t>(pointer) % 4 == 0, "tensors[%d].%s is 0x%llx; it must be aligned to 4 bytes", t, field,
                address(pointer));
}

void check_below_one(Check& check, const char* field, float value) {
  check.real(field, static_cast<double>(value), 0)
      .require(value < 1, "%s is %g; it must be less than 1", field, static_cast<double>(value));
}

void check_rates(Check& check, const cudamoe_optimizer_step_args& args) {
  const int32_t optimizer = args.optimizer;
  check.require(optimizer == CUDAMOE_OPTIMIZER_SGD || optimizer == CUDAMOE_OPTIMIZER_ADAGRAD || optimizer == CUDAMOE_OPTIMIZER_ADAMW,
                "optimizer is %d; a dense tensor takes 0 (SGD), 1 (AdaGrad) or 3 (AdamW)", optimizer);
  if (args.numbers == nullptr) {
    check.real("learning_rate", static_cast<double>(args.learning_rate), 0);
    check.range("step", args.step, 1, std::numeric_limits<int64_t>::max());
  }
  check.real("gradient_scale", static_cast<double>(args.gradient_scale), std::numeric_limits<double>::lowest());
  check.real("max_norm", static_cast<double>(args.max_norm), 0);
  check.optional("norm", args.norm, 8).optional("numbers", args.numbers, 8);
  if (optimizer == CUDAMOE_OPTIMIZER_SGD) check_below_one(check, "momentum", args.momentum);
  if (optimizer == CUDAMOE_OPTIMIZER_ADAMW) {
    check_below_one(check, "beta1", args.beta1);
    check_below_one(check, "beta2", args.beta2);
  }
  if (optimizer != CUDAMOE_OPTIMIZER_SGD) {
    check.require(args.epsilon > 0, "epsilon is %g; it must be greater than 0", static_cast<double>(args.epsilon));
    check.real("epsilon", static_cast<double>(args.epsilon), 0);
  }
}

// Parameters and states are written: no two of them, and none of them and a gradient, may overlap. Gradients may be shared.
void check_apart(Check& check, const cudamoe_optimizer_step_args& args, bool has_state1, bool has_state2) {
  if (!check.ok()) return;
  struct Range {
    uintptr_t begin, end;
    int32_t tensor;
    const char* field;
    bool written;
  };
  std::vector<Range> ranges;
  ranges.reserve(static_cast<size_t>(args.tensor_count) * 4 + 1);
  const auto add = [&](int32_t tensor, const char* field, const void* pointer, int64_t bytes, bool written) {
    const auto begin = reinterpret_cast<uintptr_t>(pointer);
    if (bytes > 0) ranges.push_back({begin, begin + static_cast<uintptr_t>(bytes), tensor, field, written});
  };
  for (int32_t t = 0; t < args.tensor_count; ++t) {
    const cudamoe_optimizer_tensor& tensor = args.tensors[t];
    add(t, "parameter", tensor.parameter, 4 * tensor.count, true);
    add(t, "gradient", tensor.gradient, 4 * tensor.count, false);
    if (has_state1) add(t, "state1", tensor.state1, 4 * tensor.count, true);
    if (has_state2) add(t, "state2", tensor.state2, 4 * tensor.count, true);
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  // Of the ranges so far, those that reach furthest: a written one and a read one.
  const Range* written = nullptr;
  const Range* read = nullptr;
  for (const Range& range : ranges) {
    for (const Range* other : {written, range.written ? read : nullptr}) {
      check.require(other == nullptr || other->end <= range.begin,
                    "tensors[%d].%s overlaps tensors[%d].%s; what a step writes must be apart", range.tensor, range.field,
                    other == nullptr ? 0 : other->tensor, other == nullptr ? "" : other->field);
    }
    const Range*& furthest = range.written ? written : read;
    if (furthest == nullptr || furthest->end < range.end) furthest = &range;
  }
  const auto check_apart_from = [&](const char* field, const void* pointer, size_t bytes) {
    const auto begin = reinterpret_cast<uintptr_t>(pointer);
    for (const Range& range : ranges) {
      check.require(pointer == nullptr || !range.written || begin >= range.end || begin + bytes <= range.begin,
                    "tensors[%d].%s overlaps %s; they must be apart", range.tensor, range.field, field);
    }
  };
  check_apart_from("norm", args.norm, sizeof *args.norm);
  check_apart_from("numbers", args.numbers, sizeof *args.numbers);
}

}  // namespace

extern "C" {

cudamoe_status cudamoe_step_numbers_make(float learning_rate, float beta1, float beta2, int64_t step, cudamoe_step_numbers* numbers) {
  Check check("cudamoe_step_numbers_make");
  check.real("learning_rate", static_cast<double>(learning_rate), 0);
  check_below_one(check, "beta1", beta1);
  check_below_one(check, "beta2", beta2);
  check.range("step", step, 1, std::numeric_limits<int64_t>::max());
  check.require(numbers != nullptr, "numbers is null; it must point to a struct on the host");
  check.optional("numbers", numbers, alignof(cudamoe_step_numbers));
  if (!check.ok()) return check.status();
  *numbers = step_numbers(learning_rate, beta1, beta2, step);
  return CUDAMOE_OK;
}

cudamoe_status cudamoe_optimizer_norm_workspace(cudamoe_stream* stream, const cudamoe_optimizer_norm_args* args, int64_t* bytes) {
  return run_query("cudamoe_optimizer_norm_workspace", stream, args, bytes, &Backend::optimizer_norm_workspace,
                   [](Check& check, const cudamoe_optimizer_norm_args& a) { check_tensors_shape(check, a.tensor_count, a.tensors); });
}

cudamoe_status cudamoe_optimizer_norm(cudamoe_stream* stream, const cudamoe_optimizer_norm_args* args) {
  return run_operation("cudamoe_optimizer_norm", stream, args, &Backend::optimizer_norm,
                       [](Check& check, const cudamoe_optimizer_norm_args& a, cudamoe_stream* s) {
                         check_tensors_shape(check, a.tensor_count, a.tensors);
                         check.pointer("norm", a.norm, 8);
                         if (!check.ok()) return;
                         check.workspace(a.workspace, a.workspace_bytes, needed_bytes(s, &Backend::optimizer_norm_workspace, a));
                         check.disjoint("norm", a.norm, 8, "workspace", a.workspace, a.workspace_bytes);
                         for (int32_t t = 0; check.ok() && t < a.tensor_count; ++t) {
                           const cudamoe_optimizer_tensor& tensor = a.tensors[t];
                           check_tensor_pointer(check, t, "gradient", tensor.gradient, tensor.count);
                           check.disjoint("norm", a.norm, 8, "a tensor's gradient", tensor.gradient, 4 * tensor.count);
                           check.disjoint("workspace", a.workspace, a.workspace_bytes, "a tensor's gradient", tensor.gradient,
                                          4 * tensor.count);
                         }
                       });
}

cudamoe_status cudamoe_optimizer_step(cudamoe_stream* stream, const cudamoe_optimizer_step_args* args) {
  return run_operation(
      "cudamoe_optimizer_step", stream, args, &Backend::optimizer_step,
      [](Check& check, const cudamoe_optimizer_step_args& a, cudamoe_stream*) {
        check_rates(check, a);
        check_tensors_shape(check, a.tensor_count, a.tensors);
        if (!check.ok()) return;
        const bool has_state1 = a.optimizer != CUDAMOE_OPTIMIZER_SGD || a.momentum > 0, has_state2 = a.optimizer == CUDAMOE_OPTIMIZER_ADAMW;
        for (int32_t t = 0; check.ok() && t < a.tensor_count; ++t) {
          const cudamoe_optimizer_tensor& tensor = a.tensors[t];
          check_tensor_pointer(check, t, "parameter", tensor.parameter, tensor.count);
          check_tensor_pointer(check, t, "gradient", tensor.gradient, tensor.count);
          if (has_state1) check_tensor_pointer(check, t, "state1", tensor.state1, tensor.count);
          if (has_state2) check_tensor_pointer(check, t, "state2", tensor.state2, tensor.count);
          check.require(tensor.learning_rate_scale >= 0 && tensor.learning_rate_scale <= std::numeric_limits<float>::max(),
                        "tensors[%d].learning_rate_scale is %g; it must be a number from 0 on", t,
                        static_cast<double>(tensor.learning_rate_scale));
          check.require(tensor.weight_decay >= 0 && tensor.weight_decay <= std::numeric_limits<float>::max(),
                        "tensors[%d].weight_decay is %g; it must be a number from 0 on", t, static_cast<double>(tensor.weight_decay));
        }
        check_apart(check, a, has_state1, has_state2);
      });
}

}  // extern "C"
