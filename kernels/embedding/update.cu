// The optimiser step of embedding rows, from their merged gradients. With g = gradient_scale * gradient, d = 1 - learning_rate *
// weight_decay, and ms = mean over the row of g^2:
//   SGD:               w = d * w - lr * g
//   AdaGrad:           s = s + g^2                                   w = d * w - lr * g / (sqrt(s) + epsilon)
//   row-wise AdaGrad:  s = s + ms (one s a row)                      w = d * w - lr / (sqrt(s) + epsilon) * g
//   row-wise Adam:     v = beta2 * v + (1 - beta2) * ms (one v a row)
//                      m = beta1 * m + (1 - beta1) * g               w = d * w - lr * m^ / (sqrt(v^) + epsilon)
//                      with m^ = m / (1 - beta1^step), v^ = v / (1 - beta2^step)
// in f32. Floor beside the merging's: weights and state of a touched row are read and written once.
//
// bf16 weights are widened, updated in f32 and rounded at random to one of their two neighbours, with the probability that makes the
// expected value right: 16 random bits are added below the mantissa and the lower half is dropped. The bits are those of
// Philox4x32-10 with key (seed, step) and counter (row, element / 8, table, step), so they depend on nothing else and equal the cpu's.
//
// Tiling: that of merge.cuh; a lane has four elements of a row. Weights and states are asked for before the gradients are summed.
// A row of a table with a cache is updated where it lies (cache.cuh), found by one sector of tags; the order of sums, which follows from
// the sorted keys, is the same.
// Order of sums: the mean of squares by a butterfly over the lanes of the row.
#include "common/philox.cuh"
#include "embedding/merge_crossing.cuh"

namespace cudamoe::kernels {
namespace {

// The four elements at `column` of the weights of a row as f32; n is what is left of the row.
template <bool kCached>
CUDAMOE_DEVICE LaneVector load_weights(const MergedRow<kCached>& row, int column, int n) {
  const int64_t at = row.place() * row.row_stride() + column;
  if (!row.table.bf16) return load_lane(static_cast<const float*>(row.weights()) + at, n, row.table.whole_rows);
  const Bf16* p = static_cast<const Bf16*>(row.weights()) + at;
  LaneVector v = {};
  if (row.table.whole_rows && n >= kLaneElements) {
    const Vector<Bf16, kLaneElements> halves = load<kLaneElements>(p);
    CUDAMOE_UNROLL
    for (int j = 0; j < kLaneElements; ++j) v[j] = to_float(halves[j]);
    return v;
  }
  CUDAMOE_UNROLL
  for (int j = 0; j < kLaneElements; ++j) {
    if (j < n) v[j] = to_float(p[j]);
  }
  return v;
}

CUDAMOE_DEVICE Bf16 round_at_random(float x, uint32_t random16) {
  const uint32_t bits = bits_of(x);
  if (is_nan(x)) return {static_cast<uint16_t>((bits | 0x400000u) >> 16)};
  return {static_cast<uint16_t>((is_finite(x) ? bits + random16 : bits) >> 16)};
}

template <bool kCached>
CUDAMOE_DEVICE void store_weights(const UpdateNumbers& numbers, const MergedRow<kCached>& row, int column, int n, const LaneVector& v) {
  if (column == 0) row.note_update();
  const int64_t at = row.place() * row.row_stride() + column;
  if (!row.table.bf16) return store_lane(static_cast<float*>(row.weights()) + at, v, n, row.table.whole_rows);
  const auto step = static_cast<uint64_t>(numbers.current.step());
  const Philox random = philox(static_cast<uint32_t>(numbers.seed), static_cast<uint32_t>((numbers.seed ^ step) >> 32),
                               {{static_cast<uint32_t>(row.row), static_cast<uint32_t>(column / 8),
                                 static_cast<uint32_t>(computed_here(row.table.index)), static_cast<uint32_t>(step)}});
  // Elements 0 .. 3 of eight have the first two words, 4 .. 7 the others.
  const bool upper = computed_here(column) % 8 != 0;
  const uint32_t pair[2] = {upper ? random.word[2] : random.word[0], upper ? random.word[3] : random.word[1]};
  Vector<Bf16, kLaneElements> rounded;
  CUDAMOE_UNROLL
  for (int j = 0; j < kLaneElements; ++j) rounded[j] = round_at_random(v[j], pair[j / 2] >> (j % 2 * 16) & 0xFFFFu);
  Bf16* p = static_cast<Bf16*>(row.weights()) + at;
  if (row.table.whole_rows && n >= kLaneElements) return store(p, rounded);
  CUDAMOE_UNROLL
  for (int j = 0; j < kLaneElements; ++j) {
    if (j < n) p[j] = rounded[j];
  }
}

// What the rules share: w = d * w - rate * direction.
struct RuleBase {
  UpdateNumbers numbers;

  static constexpr bool kRowWise = false, kCached = false;
  static constexpr int kBlocks = 5, kPlainBlocks = 7;  // of a multiprocessor

  struct Elements {
    LaneVector weights, state;
  };

  // Whether the rows stay as they are; the same for all threads.
  CUDAMOE_DEVICE bool idle() const { return numbers.norm != nullptr && !is_finite(*numbers.norm); }
  CUDAMOE_DEVICE static uint32_t first_rank(int64_t) { return 0; }
  CUDAMOE_DEVICE float scaled(float sum) const { return numbers.gradient_scale * sum; }
  CUDAMOE_DEVICE float squares(const LaneVector& sum) const {
    float total = 0;
    CUDAMOE_UNROLL
    for (int j = 0; j < kLaneElements; ++j) total = fma(scaled(sum[j]), scaled(sum[j]), total);
    return total;
  }
  // What decoupled weight decay multiplies a weight by.
  CUDAMOE_DEVICE float decay() const { return fma(-numbers.current.learning_rate(), numbers.weight_decay, 1.0f); }
  CUDAMOE_DEVICE static float moved(float weight, float decay, float rate, float direction) {
    return fma(-rate, direction, decay * weight);
  }
  // Of a state with the shape of the weights.
  template <class Row>
  CUDAMOE_DEVICE static float* element_state(const Row& row, int column) {
    return row.state1() + row.place() * row.row_stride() + column;
  }
  template <class Row>
  CUDAMOE_DEVICE static LaneVector load_state(const Row& row, int column, int n) {
    return load_lane(element_state(row, column), n, row.table.whole_rows);
  }
  template <class Row>
  CUDAMOE_DEVICE static void store_state(const Row& row, int column, int n, const LaneVector& state) {
    store_lane(element_state(row, column), state, n, row.table.whole_rows);
  }
};

struct Sgd : RuleBase {
  template <class Row>
  CUDAMOE_DEVICE Elements load(const Row& row, int column, int n) const {
    return {load_weights(row, column, n), {}};
  }
  template <class Row>
  CUDAMOE_DEVICE void apply(const Row& row, int column, int n, Elements e, const LaneVector& sum, float) const {
    const float keep = decay(), rate = numbers.current.learning_rate();
    CUDAMOE_UNROLL
    for (int j = 0; j < kLaneElements; ++j) e.weights[j] = moved(e.weights[j], keep, rate, scaled(sum[j]));
    store_weights(numbers, row, column, n, e.weights);
  }
};

struct AdaGrad : RuleBase {
  template <class Row>
  CUDAMOE_DEVICE Elements load(const Row& row, int column, int n) const {
    return {load_weights(row, column, n), load_state(row, column, n)};
  }
  template <class Row>
  CUDAMOE_DEVICE void apply(const Row& row, int column, int n, Elements e, const LaneVector& sum, float) const {
    const float keep = decay(), rate = numbers.current.learning_rate();
    CUDAMOE_UNROLL
    for (int j = 0; j < kLaneElements; ++j) {
      const float g = scaled(sum[j]);
      e.state[j] = fma(g, g, e.state[j]);
      e.weights[j] = moved(e.weights[j], keep, rate, g / (sqrt(e.state[j]) + numbers.epsilon));
    }
    store_state(row, column, n, e.state);
    store_weights(numbers, row, column, n, e.weights);
  }
};

struct RowWiseAdaGrad : RuleBase {
  static constexpr bool kRowWise = true;
  template <class Row>
  CUDAMOE_DEVICE Elements load(const Row& row, int column, int n) const {
    return {load_weights(row, column, n), {}};
  }
  template <class Row>
  CUDAMOE_DEVICE static float load_row(const Row& row) {
    return row.state1()[row.place()];
  }
  template <class Row>
  CUDAMOE_DEVICE static void store_row(const Row& row, float state) {
    row.state1()[row.place()] = state;
  }
  CUDAMOE_DEVICE float next_state(float state, float mean_square) const { return state + mean_square; }
  CUDAMOE_DEVICE float rate(float state) const { return numbers.current.learning_rate() / (sqrt(state) + numbers.epsilon); }
  template <class Row>
  CUDAMOE_DEVICE void apply(const Row& row, int column, int n, Elements e, const LaneVector& sum, float rate) const {
    const float keep = decay();
    CUDAMOE_UNROLL
    for (int j = 0; j < kLaneElements; ++j) e.weights[j] = moved(e.weights[j], keep, rate, scaled(sum[j]));
    store_weights(numbers, row, column, n, e.weights);
  }
};

struct RowWiseAdam : RuleBase {
  static constexpr bool kRowWise = true;
  static constexpr int kBlocks = 4, kPlainBlocks = 5;
  template <class Row>
  CUDAMOE_DEVICE Elements load(const Row& row, int column, int n) const {
    return {load_weights(row, column, n), load_state(row, column, n)};
  }
  template <class Row>
  CUDAMOE_DEVICE static float load_row(const Row& row) {
    return row.state2()[row.place()];
  }
  template <class Row>
  CUDAMOE_DEVICE static void store_row(const Row& row, float state) {
    row.state2()[row.place()] = state;
  }
  CUDAMOE_DEVICE float next_state(float state, float mean_square) const {
    return numbers.beta2 * state + (1.0f - numbers.beta2) * mean_square;
  }
  CUDAMOE_DEVICE float rate(float state) const {
    const CurrentStep& now = numbers.current;
    return now.learning_rate() * now.correction1() / (sqrt(now.correction2() * state) + numbers.epsilon);
  }
  template <class Row>
  CUDAMOE_DEVICE void apply(const Row& row, int column, int n, Elements e, const LaneVector& sum, float rate) const {
    const float keep = decay();
    CUDAMOE_UNROLL
    for (int j = 0; j < kLaneElements; ++j) {
      e.state[j] = fma(numbers.beta1, e.state[j], (1.0f - numbers.beta1) * scaled(sum[j]));
      e.weights[j] = moved(e.weights[j], keep, rate, e.state[j]);
    }
    store_state(row, column, n, e.state);
    store_weights(numbers, row, column, n, e.weights);
  }
};

// A rule for tables of which some have a cache.
template <class Rule>
struct Cached : Rule {
  static constexpr bool kCached = true;
  static constexpr int kBlocks = 4;
};

template <class Rule>
cudaError_t launch_update(const MergePlan& plan, const UpdateNumbers& numbers, cudaStream_t stream) {
  const char* name = "embedding_update";
  const Rule rule{{numbers}};
  return plan.plan.caches == nullptr ? launch_merge(name, plan, rule, stream) : launch_merge(name, plan, Cached<Rule>{rule}, stream);
}

}  // namespace

cudaError_t embedding_update(const MergePlan& plan, EmbeddingRule rule, const UpdateNumbers& numbers, cudaStream_t stream) {
  switch (rule) {
    case EmbeddingRule::kSgd:
      return launch_update<Sgd>(plan, numbers, stream);
    case EmbeddingRule::kAdaGrad:
      return launch_update<AdaGrad>(plan, numbers, stream);
    case EmbeddingRule::kRowWiseAdaGrad:
      return launch_update<RowWiseAdaGrad>(plan, numbers, stream);
    default:
      return launch_update<RowWiseAdam>(plan, numbers, stream);
  }
}

}  // namespace cudamoe::kernels
