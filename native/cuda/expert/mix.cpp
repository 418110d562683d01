// Mixtures of experts: the fused kernel, or, a piece of the samples at a time, routing, two products and combine.
#include "combine/combine.h"
#include "cuda/expert/trial.h"
#include "cuda/gating/routing.h"

namespace cudamoe::cuda {
namespace {

using Args = cudamoe_expert_mix_args;
using kernels::ExpertTile;

constexpr const char* kFunction = "cudamoe_expert_mix";

// Hidden columns are computed again for each pass over tasks or output columns.
constexpr int64_t kMostPasses = 4;

std::optional<FusedExpert> fuse_dense(const Device& device, const Args& args) {
  const auto passes = [&](ExpertTile tile) {
    return parts_of(args.n, expert_tile_columns(tile)) * parts_of(args.tasks, expert_tile_tasks(tile));
  };
  const ExpertTile one = args.n <= 64 ? ExpertTile::kMix64x1 : ExpertTile::kMix128x1;
  const auto fuse = [&](ExpertTile more) {
    const ExpertTile tile = args.tasks == 1 ? one : more;
    return passes(tile) > kMostPasses ? std::nullopt : fuse_experts(device, args.packed_dtype, args.k, args.hidden, tile, args.experts);
  };
  if (has_warp_groups(device)) {
    if (const auto fused = fuse(ExpertTile::kMix64x3)) return fused;
  }
  return fuse(passes(ExpertTile::kMix64x2) <= passes(ExpertTile::kMix32x4) ? ExpertTile::kMix64x2 : ExpertTile::kMix32x4);
}

// Lists of experts that a sample can have chosen, for one task; 0 when there are too many to sort by.
int64_t lists_of(const Args& args) {
  int64_t lists = 1;
  for (int32_t j = 0; j < args.choices; ++j) {
    lists *= args.experts + 1;
    if (lists > kernels::kExpertMostLists) return 0;
  }
  return lists;
}

// Samples that share a list share a tile: worth it while weights are not copied much more often than for experts one by one.
std::optional<FusedExpert> fuse_sparse(const Device& device, const Args& args) {
  const int64_t lists = lists_of(args), items = args.rows * args.tasks, rows = kernels::kExpertRows;
  if (lists == 0) return std::nullopt;
  const ExpertTile tile = args.n <= 64 ? ExpertTile::kMix64x1 : ExpertTile::kMix128x1;
  if (parts_of(args.n, expert_tile_columns(tile)) > kMostPasses) return std::nullopt;
  constexpr int64_t kAlways = 512;  // copies of an expert's weights, a few microseconds of all multiprocessors
  const int64_t copies = (items / rows + std::min(items, lists)) * args.choices;
  if (copies > 4 * (items * args.choices / rows + args.experts) + kAlways) return std::nullopt;
  return fuse_experts(device, args.packed_dtype, args.k, args.hidden, tile, args.choices);
}

cudamoe_routing_args routing_of(int32_t groups, int64_t samples, int32_t choices) {
  cudamoe_routing_args routing{};
  routing.struct_size = sizeof routing;
  routing.experts = groups;
  routing.samples = samples;
  routing.choices = choices;
  routing.order = CUDAMOE_ORDER_SAMPLE_MAJOR;
  return routing;
}

// Keys, the results of routing by them, and its work space.
int32_t* take_routing(Pieces& pieces, void* stream, cudamoe_routing_args& routing) {
  const int64_t pairs = routing.samples * routing.choices;
  auto* keys = pieces.take<int32_t>(pairs);
  routing.chosen = keys;
  routing.offsets = pieces.take<int64_t>(int64_t{routing.experts} + 1);
  routing.sample_of_slot = pieces.take<int32_t>(pairs);
  routing.pair_of_slot = pieces.take<int32_t>(pairs);
  routing.slot_of_pair = pieces.take<int32_t>(pairs);
  routing.workspace_bytes = routing_workspace(stream, routing);
  routing.workspace = pieces.take<char>(routing.workspace_bytes);
  return keys;
}

cudamoe_status make_keys(const Stream& stream, const Args& args, int64_t first_pair, int64_t items, int32_t digits, int32_t* keys) {
  const kernels::ExpertKeys make{
      args.chosen + first_pair, first_pair, items, digits, args.experts, keys, static_cast<kernels::OffenderCell*>(stream.scratch()),
      stream.device_report()};
  return stream.check(kernels::expert_keys(make, stream.get()), kFunction);
}

// The mixtures without how the fused kernel goes about them.
kernels::Expert describe_mixtures(const Stream& stream, const Args& args, const FusedExpert& fused) {
  kernels::Expert expert = describe_experts(args, fused);
  expert.form = args.chosen == nullptr ? kernels::ExpertForm::kDense : kernels::ExpertForm::kSparse;
  expert.rows.rows = args.rows;
  expert.rows.groups = 1;
  expert.rows.function = kernels::GemmFunction::kExpertForward;
  expert.rows.report = stream.device_report();
  expert.y = {args.y, args.y_row_stride, 0, args.y_dtype == CUDAMOE_BF16 ? 1 : 0};
  expert.y_task_stride = args.y_task_stride;
  expert.experts = args.experts;
  expert.tasks = args.tasks;
  expert.choices = args.choices;
  expert.gates = args.gates;
  expert.residual = args.residual;
  return expert;
}

cudaError_t launch_mix(const Stream& stream, const Args& args, kernels::ExpertLaunch launch, int64_t tiles, const kernels::Expert& expert) {
  launch.blocks = expert_blocks(stream.device(), tiles, 0);
  const cudaError_t error = map_weights(expert, args.experts, launch);
  return error == cudaSuccess ? kernels::expert_mix(expert, launch, stream.get()) : error;
}

kernels::ExpertLists take_lists(Pieces& pieces, const Args& args) {
  kernels::ExpertLists lists{};
  lists.chosen = args.chosen;
  lists.items = args.rows * args.tasks;
  lists.choices = args.choices;
  lists.experts = args.experts;
  lists.lists = static_cast<int32_t>(lists_of(args));
  lists.keys = pieces.take<int32_t>(lists.items);
  lists.counts = pieces.take<uint32_t>(lists.lists * lists.blocks());
  lists.totals = pieces.take<uint32_t>(lists.lists);
  lists.sorted = pieces.take<int32_t>(lists.items);
  lists.tiles = pieces.take<kernels::ExpertRowTile>(lists.most_tiles());
  lists.tile_count = pieces.take<int32_t>(1);
  return lists;
}

cudaError_t mix_fused_sparse(const Stream& stream, const Args& args, const FusedExpert& fused) {
  Pieces pieces(args.workspace);
  kernels::ExpertLists lists = take_lists(pieces, args);
  lists.offender = static_cast<kernels::OffenderCell*>(stream.scratch());
  lists.report = stream.device_report();
  if (const cudaError_t error = kernels::expert_lists(lists, stream.get()); error != cudaSuccess) return error;
  kernels::Expert expert = describe_mixtures(stream, args, fused);
  expert.rows.rows = lists.items;
  expert.tiles = lists.tiles;
  expert.tile_count = lists.tile_count;
  expert.items = lists.sorted;
  return launch_mix(stream, args, fused.launch, lists.most_tiles(), expert);
}

// Where the fused kernel does not serve: samples in pieces whose hidden rows and outputs take about 64 MiB.
struct Piece {
  int64_t samples;
  bool dense;
  cudamoe_routing_args sort = {};
  int32_t* keys = nullptr;
  void* h;
  float *outputs, *sums;  // sums: of a bf16 y
  int64_t bytes;

  Piece(void* handle, const Args& args, bool is_dense, void* memory) : dense(is_dense) {
    constexpr int64_t kBytes = int64_t{64} << 20, kLeast = 256;
    const int64_t each = dense ? args.experts : int64_t{args.tasks} * args.choices;
    const int64_t h_bytes = args.packed_dtype == CUDAMOE_BF16 ? 2 : 4;
    samples = std::min(args.rows, std::max(kLeast, kBytes / (each * (args.hidden * h_bytes + args.n * 4))));
    Pieces pieces(memory);
    if (!dense) {
      sort = routing_of(args.experts + 1, samples, args.tasks * args.choices);
      keys = take_routing(pieces, handle, sort);
    }
    h = pieces.take<char>(samples * each * args.hidden * h_bytes);
    outputs = pieces.take<float>(samples * each * args.n);
    sums = pieces.take<float>(args.y_dtype == CUDAMOE_BF16 ? samples * args.tasks * args.n : 0);
    bytes = pieces.bytes();
  }
};

cudamoe_status mix_piece(void* handle, const Args& args, const Piece& piece, int64_t first, int64_t count) {
  const Stream& stream = stream_of(handle);
  const int64_t each = int64_t{args.tasks} * args.choices, pairs = count * each;
  const bool bf16 = args.packed_dtype == CUDAMOE_BF16, bf16_y = args.y_dtype == CUDAMOE_BF16, bf16_x = args.x_dtype == CUDAMOE_BF16;
  TwoProducts two{};
  two.rows.rows = piece.dense ? count : pairs;
  two.rows.groups = args.experts;
  two.rows.function = kernels::GemmFunction::kExpertForward;
  two.rows.report = stream.device_report();
  two.x = {static_cast<const char*>(args.x) + first * args.x_row_stride * (bf16_x ? 2 : 4), args.x_row_stride, 0, bf16_x ? 1 : 0};
  two.h = {piece.h, args.hidden, piece.dense ? count * args.hidden : 0, bf16 ? 1 : 0};
  two.before = two.h;
  two.before.data = nullptr;
  two.y = {piece.outputs, args.n, piece.dense ? count * args.n : 0, 0};
  cudamoe_status status = CUDAMOE_OK;
  if (!piece.dense) {
    cudamoe_routing_args sort = piece.sort;
    sort.samples = count;
    status = make_keys(stream, args, first * each, pairs, 1, piece.keys);
    if (status == CUDAMOE_OK) status = routing(handle, sort);
    // The last of the groups has the pairs without an expert.
    if (status == CUDAMOE_OK)
      status = stream.check(kernels::expert_drop_slots(sort.slot_of_pair, pairs, sort.offsets + args.experts, stream.get()), kFunction);
    two.rows.offsets = sort.offsets;
    two.rows.gather = sort.sample_of_slot;
    two.rows.x_rows = count;
  }
  if (status == CUDAMOE_OK) status = run_two_products(stream, args, two, kFunction);
  if (status != CUDAMOE_OK) return status;
  kernels::CombineForward combine{};
  combine.shape.tasks = args.tasks;
  combine.shape.choices = args.choices;
  combine.shape.rows = count;
  combine.shape.width = args.n;
  combine.shape.slots = piece.sort.slot_of_pair;
  combine.shape.expert_rows = pairs;
  combine.shape.offender = static_cast<kernels::OffenderCell*>(stream.scratch());
  combine.shape.report = stream.device_report();
  combine.gates = args.gates + first * each;
  combine.residual = args.residual;
  combine.expert = {piece.outputs, args.n, count * args.n};
  combine.y = bf16_y ? piece.sums : static_cast<float*>(args.y) + first * args.y_row_stride;
  combine.y_row_stride = bf16_y ? args.tasks * args.n : args.y_row_stride;
  combine.y_task_stride = bf16_y ? args.n : args.y_task_stride;
  cudaError_t error = kernels::combine_forward(combine, stream.get());
  if (error == cudaSuccess && bf16_y) {
    kernels::ExpertRound round{};
    round.sums = piece.sums;
    round.rows = count;
    round.columns = args.n;
    round.tasks = args.tasks;
    round.y = static_cast<char*>(args.y) + first * args.y_row_stride * 2;
    round.y_row_stride = args.y_row_stride;
    round.y_task_stride = args.y_task_stride;
    error = kernels::expert_round(round, stream.get());
  }
  return stream.check(error, kFunction);
}

int64_t bytes_of_lists(const Args& args) {
  Pieces pieces(nullptr);
  take_lists(pieces, args);
  return pieces.bytes();
}

struct MixCall {
  void* handle;
  const Stream& stream;
  Args args;
  std::optional<FusedExpert> fused;

  cudaError_t run_fused() const {
    if (args.chosen != nullptr) return mix_fused_sparse(stream, args, *fused);
    return launch_mix(stream, args, fused->launch, parts_of(args.rows, kernels::kExpertRows), describe_mixtures(stream, args, *fused));
  }

  cudamoe_status run_products() const {
    const Piece piece(handle, args, args.chosen == nullptr, args.workspace);
    cudamoe_status status = CUDAMOE_OK;
    for (int64_t first = 0; first < args.rows && status == CUDAMOE_OK; first += piece.samples)
      status = mix_piece(handle, args, piece, first, std::min(piece.samples, args.rows - first));
    return status;
  }

  cudaError_t compare(kernels::SampleCounts* counts) const {
    return kernels::expert_compare(describe_mixtures(stream, args, *fused), args.chosen, kExpertSamples, counts, stream.get());
  }

  kernels::GemmMatrix x() const { return {args.x, args.x_row_stride, 0, args.x_dtype == CUDAMOE_BF16 ? 1 : 0}; }
  kernels::GemmMatrix y() const { return {args.y, args.y_row_stride, args.y_task_stride, args.y_dtype == CUDAMOE_BF16 ? 1 : 0}; }

  CallKind kind() const {
    Bits form = expert_form_bits(args);
    form.add(is_aligned(x()), 1).add(is_aligned(y()), 1).add(args.chosen != nullptr, 1).add(args.residual != nullptr, 1);
    form.add(static_cast<uint64_t>(args.experts), 13)
        .add(static_cast<uint64_t>(args.tasks), 13)
        .add(static_cast<uint64_t>(args.choices), 13);
    form.add(power_above(args.rows), 5);
    return {expert_shape_bits(args.n, args.k, args.hidden), form.get() | kExpertMixKind};
  }

  std::string words() const {
    return std::to_string(args.tasks) + " mixtures of " + (args.chosen == nullptr ? "" : std::to_string(args.choices) + " chosen of ") +
           std::to_string(args.experts) + " experts " + std::to_string(args.k) + " -> " + std::to_string(args.hidden) + " -> " +
           std::to_string(args.n) + ", up to 2^" + std::to_string(power_above(args.rows)) + " rows";
  }

  cudaError_t write_to(TrialMemory& memory) {
    const cudaError_t error =
        replace(memory, args.rows * args.tasks, args.n, is_aligned(y()), args.y_dtype == CUDAMOE_BF16, &args.y, &args.y_task_stride);
    args.y_row_stride = args.tasks * args.y_task_stride;
    return error;
  }
};

}  // namespace

int64_t expert_mix_workspace(void* handle, const Args& args) {
  const Device& device = stream_of(handle).device();
  // Enough for either way, and for fewer rows, which may go the other one.
  int64_t bytes = std::max(lists_of(args) > 0 ? bytes_of_lists(args) : 0, Piece(handle, args, false, nullptr).bytes);
  // Pointers may still be null: as many choices as experts may be chosen ones too.
  if (args.choices == args.experts && (device.trials().on() || !fuse_dense(device, args)))
    bytes = std::max(bytes, Piece(handle, args, true, nullptr).bytes);
  return bytes;
}

cudamoe_status expert_mix(void* handle, const Args& args) {
  if (const cudamoe_status status = check_expert_size(args, kFunction); status != CUDAMOE_OK) return status;
  if (args.rows == 0) return CUDAMOE_OK;
  const Stream& stream = stream_of(handle);
  const MixCall call{handle, stream, args, args.chosen == nullptr ? fuse_dense(stream.device(), args) : fuse_sparse(stream.device(), args)};
  return call.fused ? choose_and_run(call, *call.fused, kFunction) : call.run_products();
}

}  // namespace cudamoe::cuda
