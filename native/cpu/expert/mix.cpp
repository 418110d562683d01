// cudamoe_expert_mix of the cpu backend: a task is a block of samples. Its pairs (sample, expert) are sorted by expert, each expert's rows
// go through both layers (layers.h) into the work space, and combine adds them up: neither hidden rows nor outputs of experts leave the
// caches. A block has as many samples as keep the outputs within 512 KiB.
#include "cpu/combine/combine.h"
#include "cpu/common/bf16.h"
#include "cpu/common/first_offender.h"
#include "cpu/expert/expert.h"
#include "cpu/expert/layers.h"

namespace cudamoe::cpu {
namespace {

using Args = cudamoe_expert_mix_args;

// How the samples are cut, and a thread's work space, in floats. No result depends on it.
struct MixPlan {
  int64_t block;                                   // samples
  int64_t n_stride;                                // of outputs, whole cache lines
  int64_t layers, outputs, sums, places, offsets;  // parts of the work space

  int64_t floats() const { return layers + outputs + sums + 2 * places + offsets; }
};

MixPlan plan_mix(int threads, const Args& args, bool sparse) {
  constexpr int64_t kOutputFloats = int64_t{128} << 10, kMostSamples = 1024, kTasksAThread = 4;
  const int64_t pairs = sparse ? int64_t{args.tasks} * args.choices : args.experts;
  const int64_t tile = tile_shape().rows;
  MixPlan plan{};
  plan.n_stride = round_up(args.n, 16);
  const int64_t share = divide_up(args.rows, threads == 1 ? 1 : kTasksAThread * threads);
  plan.block = round_up(std::clamp(std::min(kOutputFloats / (pairs * plan.n_stride), share), tile, kMostSamples), tile);
  plan.layers = round_up(ExpertLayers("", args).floats(), 16);
  plan.outputs = plan.block * pairs * plan.n_stride;
  plan.sums = args.y_dtype == CUDAMOE_BF16 ? plan.block * args.tasks * plan.n_stride : 0;
  plan.places = sparse ? round_up(plan.block * pairs, 16) : 0;
  plan.offsets = sparse ? round_up(int64_t{args.experts} + 1, 16) : 0;
  return plan;
}

// A block's samples, first .. first + count - 1.
class MixBlock {
 public:
  MixBlock(const Args& args, const MixPlan& plan, const ExpertLayers& layers, Stream& stream, int64_t first, int64_t count,
           float* workspace)
      : args_(args),
        plan_(plan),
        layers_(layers),
        stream_(stream),
        first_(first),
        count_(count),
        layers_space_(workspace),
        outputs_(workspace + plan.layers),
        sums_(outputs_ + plan.outputs),
        slots_(reinterpret_cast<int32_t*>(sums_ + plan.sums)),
        samples_(slots_ + plan.places),
        offsets_(samples_ + plan.places) {}

  // Returns the first pair of all whose expert is out of range, or -1.
  int64_t run() {
    const int64_t bad = args_.chosen == nullptr ? -1 : sort_pairs();
    for (int64_t e = 0; e < args_.experts; ++e) run_expert(e);
    combine();
    return bad;
  }

 private:
  // Slots by expert, in the order of the pairs; samples_ has the sample of a slot.
  int64_t sort_pairs() {
    const int64_t each = int64_t{args_.tasks} * args_.choices, pairs = count_ * each;
    const int32_t* chosen = args_.chosen + first_ * each;
    const auto good = [&](int64_t pair) { return chosen[pair] >= 0 && chosen[pair] < args_.experts; };
    int64_t bad = -1;
    std::fill_n(offsets_, args_.experts + 1, 0);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      if (good(pair)) {
        ++offsets_[chosen[pair] + 1];
      } else if (bad < 0) {
        bad = first_ * each + pair;
      }
    }
    for (int32_t e = 0; e < args_.experts; ++e) offsets_[e + 1] += offsets_[e];
    for (int64_t pair = 0; pair < pairs; ++pair) {
      slots_[pair] = good(pair) ? offsets_[chosen[pair]]++ : -1;
      if (slots_[pair] >= 0) samples_[slots_[pair]] = static_cast<int32_t>(pair / each);
    }
    return bad;  // offsets_[e] is now where expert e ends
  }

  void run_expert(int64_t expert) {
    const bool sparse = args_.chosen != nullptr;
    const int64_t begin = sparse ? (expert == 0 ? 0 : offsets_[expert - 1]) : expert * plan_.block;
    const int64_t rows = sparse ? offsets_[expert] - begin : count_;
    const RowsOf<const void*> x{args_.x, args_.x_row_stride, args_.x_dtype == CUDAMOE_BF16};
    layers_.run(stream_,
                {.expert = expert,
                 .rows = rows,
                 .x = x.from(first_),
                 .gather = sparse ? samples_ + begin : nullptr,
                 .x_rows = count_,
                 .first_row = 0,
                 .h = {},
                 .before = {},
                 .y = {outputs_ + begin * plan_.n_stride, plan_.n_stride, false}},
                layers_space_);
  }

  void combine() {
    const bool bf16 = args_.y_dtype == CUDAMOE_BF16;
    const int64_t each = int64_t{args_.tasks} * args_.choices;
    cudamoe_combine_forward_args sum{};
    sum.struct_size = sizeof sum;
    sum.tasks = args_.tasks;
    sum.rows = count_;
    sum.width = args_.n;
    sum.choices = args_.choices;
    sum.gates = args_.gates + first_ * each;
    sum.residual = args_.residual;
    sum.slot_of_pair = args_.chosen == nullptr ? nullptr : slots_;
    sum.expert = outputs_;
    sum.expert_row_stride = plan_.n_stride;
    sum.expert_stride = plan_.block * plan_.n_stride;
    sum.expert_rows = count_ * each;
    sum.y = bf16 ? sums_ : static_cast<float*>(args_.y) + first_ * args_.y_row_stride;
    sum.y_row_stride = bf16 ? args_.tasks * plan_.n_stride : args_.y_row_stride;
    sum.y_task_stride = bf16 ? plan_.n_stride : args_.y_task_stride;
    combine_forward(&stream_, sum);
    if (!bf16) return;
    for (int64_t b = 0; b < count_; ++b) {
      for (int64_t t = 0; t < args_.tasks; ++t) {
        const float* from = sums_ + (b * args_.tasks + t) * plan_.n_stride;
        Bf16* to = static_cast<Bf16*>(args_.y) + (first_ + b) * args_.y_row_stride + t * args_.y_task_stride;
        for (int64_t j = 0; j < args_.n; ++j) to[j] = to_bf16(from[j]);
      }
    }
  }

  const Args& args_;
  const MixPlan& plan_;
  const ExpertLayers& layers_;
  Stream& stream_;
  int64_t first_, count_;
  float *layers_space_, *outputs_, *sums_;
  int32_t *slots_, *samples_, *offsets_;
};

}  // namespace

int64_t expert_mix_workspace(void* stream, const Args& args) {
  const int threads = stream_of(stream).device().threads();
  // Pointers may still be null: as many choices as experts may be chosen ones too.
  const int64_t sparse = plan_mix(threads, args, true).floats();
  const int64_t floats = args.choices == args.experts ? std::max(sparse, plan_mix(threads, args, false).floats()) : sparse;
  return threads * floats * static_cast<int64_t>(sizeof(float));
}

cudamoe_status expert_mix(void* handle, const Args& args) {
  if (args.rows == 0) return CUDAMOE_OK;
  Stream& stream = stream_of(handle);
  const MixPlan plan = plan_mix(stream.device().threads(), args, args.chosen != nullptr);
  const ExpertLayers layers("cudamoe_expert_mix", args);
  const double pairs = args.chosen == nullptr ? args.experts : double{1} * args.tasks * args.choices;
  FirstOffender offender;
  stream.device().for_tiles(divide_up(args.rows, plan.block), pairs * layers.cost(args.rows), [&](int64_t number, int worker) {
    const int64_t first = number * plan.block;
    MixBlock block(args, plan, layers, stream, first, std::min(plan.block, args.rows - first),
                   static_cast<float*>(args.workspace) + worker * plan.floats());
    offender.note(block.run());
  });
  if (const int64_t pair = offender.index(); pair >= 0) {
    stream.report("cudamoe_expert_mix: chosen[%lld] is %d; it must be at least 0 and below experts (%d); such choices give nothing",
                  static_cast<long long>(pair), args.chosen[pair], args.experts);
  }
  return CUDAMOE_OK;
}

}  // namespace cudamoe::cpu
