// Gradients of the gate-weighted sum; with s[t] = task_scale[t] (or 1), f' the derivative of the experts' activation:
//
//   dense    dexpert[b, e, :]  = f' . sum_t (gates[b, t, e] + residual[t, e]) s[t] dy[b, t, :]
//            dgates[b, t, e]   = s[t] <dy[b, t, :], expert[b, e, :]>
//   sparse   dexpert[slot, :]  = f' . gates[b, t, j] s[t] dy[b, t, :]       every routed row belongs to one (b, t, j)
//            dgates[b, t, j]   = s[t] <dy[b, t, :], expert[slot, :]>, 0 when dropped
// A task of scale zero is left out, NaN and all.
//
// Floor: expert and dy read once, dexpert written once: s rows choices width 2 + 4 rows tasks width bytes (dense).
// Tiling: 8, 16 or 32 neighbouring lanes, by the width, an item: a row (dense), or a row and task (sparse); 16 bytes of an expert's row a
// lane. They take two experts at a time and up to four tasks; all loads of such a part are under way before its sums begin. The general
// kernel, for smooth activations or more tasks, takes one expert at a time; tasks after the fourth take passes of their own for their dot
// products. dy comes from the L1 cache after the first part. Blocks of 256 threads; the grid strides. No shared memory.
// Order of sums: tasks ascending; a dot product by lanes, each its columns ascending, then the lanes by a butterfly.
#include "combine/elements.cuh"
#include "common/activation.cuh"
#include "common/warp_sums.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kThreads = 256, kMostBlocks = 4096;

// What an item's lanes share.
struct Item {
  bool active;
  int64_t row;
  int task, tasks;  // the first, and how many
  int64_t pair;     // of the first task and choice
};

template <class T, int N, int kLanes, int kTasks, bool kGeneral>
class ItemGradient {
 public:
  static constexpr int kExperts = kGeneral ? 1 : 2, kSums = kTasks * kExperts;
  static_assert(kSums <= kLanes);

  CUDAMOE_DEVICE ItemGradient(const CombineBackward& combine, const Item& item)
      : combine_(combine),
        shape_(combine.shape),
        item_(item),
        lane_(lane_id() % kLanes),
        dy_(combine.dy + item.row * combine.dy_row_stride + item.task * combine.dy_task_stride) {}

  CUDAMOE_DEVICE void run() const {
    for (int expert = 0; expert < shape_.choices; expert += kExperts) {
      part<true>(expert, 0);
      if constexpr (kGeneral && kTasks > 1) {
        if (combine_.dgates == nullptr) continue;
        for (int task = kTasks; task < item_.tasks; task += kTasks) part<false>(expert, task);
      }
    }
  }

 private:
  CUDAMOE_DEVICE float scale(int t) const { return combine_.task_scale == nullptr ? 1.0f : combine_.task_scale[item_.task + t]; }

  CUDAMOE_DEVICE float weight(int t, int e) const {
    float value = combine_.gates[item_.pair + int64_t{t} * shape_.choices + e];
    if (shape_.slots == nullptr && combine_.residual != nullptr) value += combine_.residual[t * shape_.choices + e];
    return value * scale(t);
  }

  // Which row is that of choice e: the expert (dense) or the slot, -1 where there is none.
  CUDAMOE_DEVICE int32_t slot_of(int e) const {
    if (!item_.active || e >= shape_.choices) return -1;
    if (shape_.slots == nullptr) return e;
    const int32_t slot = shape_.slots[item_.pair + e];
    if (slot >= 0 && slot < shape_.expert_rows) return slot;
    if (slot != -1) note_offender(shape_.offender, item_.pair + e);
    return -1;
  }
  template <class Pointer>
  CUDAMOE_DEVICE int64_t place_of(const CombineExperts<Pointer>& experts, int32_t slot) const {
    return shape_.slots == nullptr ? item_.row * experts.row_stride + slot * experts.expert_stride : slot * experts.row_stride;
  }

  CUDAMOE_DEVICE void apply_derivative(const Vector<T, N>& x, const T* below, Floats<N>& sum) const {
    if constexpr (kGeneral) {
      const Floats<N> from = load_floats<N>(below);
      CUDAMOE_UNROLL
      for (int i = 0; i < N; ++i) sum[i] *= activation_derivative(combine_.activation, from[i], combine_.slope);
    } else if (combine_.activation != Activation::kNone) {
      const float low = combine_.activation == Activation::kRelu ? 0.0f : combine_.slope;
      CUDAMOE_UNROLL
      for (int i = 0; i < N; ++i) sum[i] *= to_float(x[i]) <= 0 ? low : 1.0f;
    }
  }

  // The dot products of experts first_expert .. with tasks first_task .., and with kWrites these rows of dexpert; first_task is then 0.
  template <bool kWrites>
  CUDAMOE_DEVICE void part(int first_expert, int first_task) const {
    int32_t slots[kExperts];
    float weights[kSums] = {}, dots[kSums] = {};
    bool live[kTasks];
    CUDAMOE_UNROLL
    for (int e = 0; e < kExperts; ++e) slots[e] = slot_of(first_expert + e);
    CUDAMOE_UNROLL
    for (int t = 0; t < kTasks; ++t) live[t] = item_.active && first_task + t < item_.tasks && scale(first_task + t) != 0;
    if constexpr (kWrites) {
      const int t = lane_ % kSums / kExperts, e = first_expert + lane_ % kExperts;
      const float own = item_.active && t < item_.tasks && e < shape_.choices ? weight(t, e) : 0.0f;
      CUDAMOE_UNROLL
      for (int k = 0; k < kSums; ++k) weights[k] = shuffle(kFullWarp, own, k, kLanes);
    }
    CUDAMOE_NO_UNROLL
    for (int64_t j = int64_t{lane_} * N; j < shape_.width; j += kLanes * N) {
      // Not initialised as a whole: g++ 12 fails on that with -fsanitize=thread.
      Vector<T, N> x[kExperts];
      CUDAMOE_UNROLL
      for (Vector<T, N>& one : x) one = {};
      Floats<N> dy[kTasks] = {};
      CUDAMOE_UNROLL
      for (int e = 0; e < kExperts; ++e) {
        if (slots[e] >= 0) x[e] = load<N>(static_cast<const T*>(combine_.expert.data) + place_of(combine_.expert, slots[e]) + j);
      }
      CUDAMOE_UNROLL
      for (int t = 0; t < kTasks; ++t) {
        if (live[t]) dy[t] = load_floats<N>(dy_ + (first_task + t) * combine_.dy_task_stride + j);
      }
      CUDAMOE_UNROLL
      for (int e = 0; e < kExperts; ++e) {
        Floats<N> sum = {};
        CUDAMOE_UNROLL
        for (int t = 0; t < kTasks; ++t) {
          if (!live[t]) continue;
          const int at = t * kExperts + e;
          CUDAMOE_UNROLL
          for (int i = 0; i < N; ++i) {
            if constexpr (kWrites) sum[i] = fma(weights[at], dy[t][i], sum[i]);
            dots[at] = fma(dy[t][i], to_float(x[e][i]), dots[at]);
          }
        }
        if constexpr (kWrites) {
          if (slots[e] < 0) continue;
          if constexpr (kGeneral && kTasks > 1) add_further_tasks(first_expert + e, j, sum);
          apply_derivative(x[e], static_cast<const T*>(combine_.below) + place_of(combine_.expert, slots[e]) + j, sum);
          store_floats(static_cast<T*>(combine_.dexpert.data) + place_of(combine_.dexpert, slots[e]) + j, sum);
        }
      }
    }
    if (combine_.dgates != nullptr) store_dots(first_expert, first_task, dots);
  }

  CUDAMOE_DEVICE void add_further_tasks(int expert, int64_t j, Floats<N>& sum) const {
    CUDAMOE_NO_UNROLL
    for (int t = kTasks; t < item_.tasks; ++t) {
      if (scale(t) == 0) continue;
      const float own = weight(t, expert);
      const Floats<N> dy = load_floats<N>(dy_ + t * combine_.dy_task_stride + j);
      CUDAMOE_UNROLL
      for (int i = 0; i < N; ++i) sum[i] = fma(own, dy[i], sum[i]);
    }
  }

  CUDAMOE_DEVICE void store_dots(int first_expert, int first_task, float (&dots)[kSums]) const {
    lane_sums<kLanes>(dots);  // that of task k / kExperts and expert k % kExperts is now in lane k
    const int t = first_task + lane_ / kExperts, e = first_expert + lane_ % kExperts;
    if (!item_.active || lane_ >= kSums || t >= item_.tasks || e >= shape_.choices) return;
    const float own = scale(t);
    combine_.dgates[item_.pair + int64_t{t} * shape_.choices + e] = own != 0 && slot_of(e) >= 0 ? dots[0] * own : 0.0f;
  }

  const CombineBackward& combine_;
  const CombineShape& shape_;
  const Item& item_;
  int lane_;
  const float* dy_;  // of the first task
};

template <class T, int N, int kLanes, int kTasks, bool kGeneral>
CUDAMOE_KERNEL(kThreads, kTasks > 1 ? 2
                         : kGeneral ? 2
                                    : 4)
gradient_kernel(const CUDAMOE_GRID_CONSTANT CombineBackward combine) {
  const CombineShape& shape = combine.shape;
  constexpr int kItems = kThreads / kLanes;
  const bool dense = shape.slots == nullptr;
  const int64_t items = dense ? shape.rows : shape.rows * shape.tasks;
  for (int64_t first = int64_t{block_x()} * kItems; first < items; first += int64_t{grid_size_x()} * kItems) {
    const int64_t at = first + thread_x() / kLanes;
    const bool active = at < items;
    Item item{active, active ? at : 0, 0, dense ? shape.tasks : 1, 0};
    item.pair = item.row * shape.choices * item.tasks;
    if (!dense && shape.tasks > 1) {
      item.task = static_cast<int>(item.row % shape.tasks);
      item.row /= shape.tasks;
    }
    ItemGradient<T, N, kLanes, kTasks, kGeneral>(combine, item).run();
  }
  if (dense) return;
  sync_block();
  if (thread_x() == 0) {
    report_offender(shape.offender, shape.report, static_cast<uint32_t>(grid_size_x()), [&](int64_t at) {
      return DeviceReport{ReportCode::kCombineSlot, 0, {1, at, shape.slots[at], shape.expert_rows}, {}};
    });
  }
}

template <class T, int N, int kLanes>
cudaError_t launch_backward(const CombineBackward& combine, cudaStream_t stream) {
  const CombineShape& shape = combine.shape;
  const bool dense = shape.slots == nullptr;
  const int64_t blocks = ceil_divide(dense ? shape.rows : shape.rows * shape.tasks, int64_t{kThreads / kLanes});
  if (blocks == 0) return cudaSuccess;
  const LaunchShape size{.name = "combine_backward",
                         .grid = {static_cast<int>(blocks < kMostBlocks ? blocks : kMostBlocks)},
                         .block = {kThreads},
                         .stream = stream};
  const bool smooth =
      combine.activation != Activation::kNone && combine.activation != Activation::kRelu && combine.activation != Activation::kLeakyRelu;
  if (dense && shape.tasks > 1) {
    constexpr int kTasks = 4;
    const bool general = smooth || shape.tasks > kTasks;
    return launch(size, general ? gradient_kernel<T, N, kLanes, kTasks, true> : gradient_kernel<T, N, kLanes, kTasks, false>, combine);
  }
  return launch(size, smooth ? gradient_kernel<T, N, kLanes, 1, true> : gradient_kernel<T, N, kLanes, 1, false>, combine);
}

template <class T>
cudaError_t run(const CombineBackward& combine, cudaStream_t stream) {
  constexpr int kVector = kCombineVector<T>;
  const CombineShape& shape = combine.shape;
  const bool inner = shape.slots == nullptr && shape.choices > 1;
  const bool whole = shape.width % kVector == 0 &&
                     aligned_for<kVector>(static_cast<const T*>(combine.expert.data), combine.expert.row_stride) &&
                     aligned_for<kVector>(static_cast<const T*>(combine.below)) &&
                     aligned_for<kVector>(static_cast<T*>(combine.dexpert.data), combine.dexpert.row_stride) &&
                     (!inner || (combine.expert.expert_stride % kVector == 0 && combine.dexpert.expert_stride % kVector == 0)) &&
                     aligned_for<4>(combine.dy, combine.dy_row_stride) && (shape.tasks == 1 || combine.dy_task_stride % 4 == 0);
  if (!whole) return launch_backward<T, 1, 32>(combine, stream);
  if (shape.width <= 8 * kVector) return launch_backward<T, kVector, 8>(combine, stream);
  if (shape.width <= 16 * kVector) return launch_backward<T, kVector, 16>(combine, stream);
  return launch_backward<T, kVector, 32>(combine, stream);
}

}  // namespace

cudaError_t combine_backward(const CombineBackward& combine, cudaStream_t stream) {
  return combine.shape.is_bf16 != 0 ? run<Bf16>(combine, stream) : run<float>(combine, stream);
}

}  // namespace cudamoe::kernels
