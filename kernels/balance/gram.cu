// Gram matrix of task gradients: gram[i, j] = sum over b, c of gradient_i[b, c] gradient_j[b, c].
//
// Floor: the gradients read once, 4 bytes an element. Up to eight tasks: a block of 128 threads per chunk of the elements of all tasks,
// whose sums of all pairs stay in registers while each element is read once. More tasks: eight by eight, a block for each pair of
// eights and chunk, those of a chunk beside each other, so that only the first read of an element comes from memory and the others from the
// L2 cache. Accesses of 16 bytes where everything is aligned. Shared memory: 1 or 2 KiB.
// Flops: tasks (tasks + 1) / 2 f64 multiply-adds an element; up to 16 tasks fewer than an A100 or H100 does in the time of the reads. On a
// GPU with few f64 units (sm_86, sm_89) they are what the time goes into. Order of sums: products of f32 are exact in f64. A thread runs of
// four columns t, t + 128, ... of the chunk ascending; the warp by a butterfly; the warps ascending; then, by another kernel, thread t the
// chunks t, t + 128, ... ascending, and the threads in the same tree.
#include "balance/elements.cuh"
#include "common/block_reduce.cuh"
#include "common/warp_sums.cuh"

namespace cudamoe::kernels {
namespace {

constexpr int kSide = 8, kWarps = kGramThreads / kWarp;

// The quads of `kCount` tasks from `first` on, zeros for tasks that there are not.
template <int kCount, bool kAligned>
CUDAMOE_DEVICE void load_tasks(const BalanceGradients& gradients, const QuadPlace& place, int first, Quad (&values)[kCount]) {
  CUDAMOE_UNROLL
  for (int t = 0; t < kCount; ++t) {
    const int64_t left = first + t < gradients.tasks ? gradients.width - place.column : 0;
    const float* data = gradients.data + (first + t) * gradients.task_stride + place.row * gradients.row_stride + place.column;
    values[t] = load_quad<kAligned>(data, left);
  }
}

// Calls add(place) for the runs of four columns that the thread has in the chunk.
template <class Add>
CUDAMOE_DEVICE void for_quads_of_chunk(const BalanceGradients& gradients, int64_t chunk, Add&& add) {
  const int64_t quads = balance_quads(gradients.rows, gradients.width), turns = balance_gram_turns(quads);
  int64_t quad = chunk * turns * kGramThreads + thread_x();
  QuadWalk walk(gradients.width, quad, kGramThreads);
  for (int64_t turn = 0; turn < turns && quad < quads; ++turn, quad += kGramThreads, walk.next()) add(walk.place());
}

// The sums over the block of kPairs values a thread; use(pair, sum) is called by one thread for each.
template <int kPairs, class Use>
CUDAMOE_DEVICE void sum_pairs(double (&sums)[kPairs], Use&& use) {
  constexpr int kOfLane = kPairs / kWarp;
  CUDAMOE_SHARED(double, partial, [kWarps][kPairs]);
  warp_sums(sums);
  CUDAMOE_UNROLL
  for (int k = 0; k < kOfLane; ++k) partial[warp_id()][lane_id() * kOfLane + k] = sums[k];
  sync_block();
  for (int pair = thread_x(); pair < kPairs; pair += kGramThreads) {
    double sum = partial[0][pair];
    CUDAMOE_UNROLL
    for (int w = 1; w < kWarps; ++w) sum += partial[w][pair];
    use(pair, sum);
  }
}

template <int kTasks, bool kAligned>
CUDAMOE_KERNEL(kGramThreads, kTasks > 6 ? 2 : 4)
few_tasks_kernel(const CUDAMOE_GRID_CONSTANT BalanceGradients gradients, int64_t chunks, double* partials) {
  constexpr int kPairs = kTasks * (kTasks + 1) / 2, kPadded = (kPairs + kWarp - 1) / kWarp * kWarp;
  double sums[kPadded] = {};
  for_quads_of_chunk(gradients, block_x(), [&](const QuadPlace& place) {
    Quad quads[kTasks];
    load_tasks<kTasks, kAligned>(gradients, place, 0, quads);
    CUDAMOE_UNROLL
    for (int c = 0; c < 4; ++c) {
      double value[kTasks];
      CUDAMOE_UNROLL
      for (int t = 0; t < kTasks; ++t) value[t] = static_cast<double>(quads[t][c]);
      int pair = 0;
      CUDAMOE_UNROLL
      for (int i = 0; i < kTasks; ++i) {
        CUDAMOE_UNROLL
        for (int j = i; j < kTasks; ++j, ++pair) sums[pair] = fma(value[i], value[j], sums[pair]);
      }
    }
  });
  sum_pairs(sums, [&](int pair, double sum) {
    if (pair >= kPairs) return;  // padding
    int i = 0, before = 0;       // pairs of the rows above row i
    while (pair >= before + kTasks - i) before += kTasks - i++;
    partials[(int64_t{i} * kTasks + i + pair - before) * chunks + block_x()] = sum;
  });
}

template <bool kAligned>
CUDAMOE_KERNEL(kGramThreads, 2)
many_tasks_kernel(const CUDAMOE_GRID_CONSTANT BalanceGradients gradients, int64_t chunks, int sides, double* partials) {
  const int pairs_of_sides = sides * (sides + 1) / 2;
  const int64_t chunk = block_x() / pairs_of_sides;
  int side_j = block_x() % pairs_of_sides, side_i = 0;
  while (side_j >= sides - side_i) side_j -= sides - side_i++;
  const int first_i = side_i * kSide, first_j = (side_i + side_j) * kSide;
  double sums[kSide * kSide] = {};
  for_quads_of_chunk(gradients, chunk, [&](const QuadPlace& place) {
    Quad right[kSide];
    load_tasks<kSide, kAligned>(gradients, place, first_j, right);
    CUDAMOE_UNROLL
    for (int half = 0; half < kSide; half += kSide / 2) {  // a half of the left at a time: the registers hold no more
      Quad left[kSide / 2];
      load_tasks<kSide / 2, kAligned>(gradients, place, first_i + half, left);
      CUDAMOE_UNROLL
      for (int c = 0; c < 4; ++c) {
        CUDAMOE_UNROLL
        for (int j = 0; j < kSide; ++j) {
          const double of_j = static_cast<double>(right[j][c]);
          CUDAMOE_UNROLL
          for (int i = 0; i < kSide / 2; ++i) {
            double& sum = sums[(half + i) * kSide + j];
            sum = fma(static_cast<double>(left[i][c]), of_j, sum);
          }
        }
      }
    }
  });
  sum_pairs(sums, [&](int pair, double sum) {
    const int i = first_i + pair / kSide, j = first_j + pair % kSide;
    if (i <= j && j < gradients.tasks) partials[(int64_t{i} * gradients.tasks + j) * chunks + chunk] = sum;
  });
}

CUDAMOE_KERNEL(kGramThreads, 8) sum_kernel(const double* partials, int64_t chunks, int32_t tasks, double* gram) {
  const int i = block_x() / tasks, j = block_x() % tasks;
  if (i > j) return;
  double sum = 0;
  for (int64_t chunk = thread_x(); chunk < chunks; chunk += kGramThreads) sum += partials[block_x() * chunks + chunk];
  sum = block_sum<kGramThreads>(sum);
  if (thread_x() != 0) return;
  gram[i * tasks + j] = sum;
  gram[j * tasks + i] = sum;
}

template <bool kAligned, int kTasks = 1>
cudaError_t run(const BalanceGradients& gradients, int64_t chunks, double* partials, cudaStream_t stream) {
  if constexpr (kTasks <= kSide) {
    if (gradients.tasks > kTasks) return run<kAligned, kTasks + 1>(gradients, chunks, partials, stream);
    if (chunks > INT32_MAX) return cudaErrorInvalidConfiguration;
    const LaunchShape shape{.name = "balance_gram", .grid = {static_cast<int>(chunks)}, .block = {kGramThreads}, .stream = stream};
    return launch(shape, few_tasks_kernel<kTasks, kAligned>, gradients, chunks, partials);
  } else {
    const int sides = ceil_divide(gradients.tasks, kSide);
    const int64_t blocks = chunks * (sides * (sides + 1) / 2);
    if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
    const LaunchShape shape{.name = "balance_gram", .grid = {static_cast<int>(blocks)}, .block = {kGramThreads}, .stream = stream};
    return launch(shape, many_tasks_kernel<kAligned>, gradients, chunks, sides, partials);
  }
}

}  // namespace

cudaError_t balance_gram_chunk_sums(const BalanceGradients& gradients, double* partials, cudaStream_t stream) {
  const int64_t chunks = balance_gram_chunks(balance_quads(gradients.rows, gradients.width));
  if (chunks == 0) return cudaSuccess;
  return gradients_aligned(gradients) ? run<true>(gradients, chunks, partials, stream) : run<false>(gradients, chunks, partials, stream);
}

cudaError_t balance_gram_sum(const double* partials, int64_t chunks, int32_t tasks, double* gram, cudaStream_t stream) {
  const LaunchShape shape{.name = "balance_gram_sum", .grid = {tasks * tasks}, .block = {kGramThreads}, .stream = stream};
  return launch(shape, sum_kernel, partials, chunks, tasks, gram);
}

}  // namespace cudamoe::kernels
