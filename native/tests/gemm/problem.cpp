#include "gemm/problem.h"

#include <sstream>

namespace cudamoe::test {

void GemmShape::choose_rows(Random& random) {
  x_rows = rows;
  if (!ragged) return;
  if (offsets.empty()) offsets = random.ragged_offsets(groups, rows);
  if (!gather) return;
  x_rows = rows == 0 ? 0 : random.integer(1, 2 * rows);
  sources.resize(static_cast<size_t>(rows));
  for (int32_t& source : sources) source = static_cast<int32_t>(random.integer(0, x_rows - 1));
}

std::vector<std::string> gemm_device_specs(int cpu_threads) {
  const std::string spec = test_device_spec();
  if (spec == "cpu") return {"cpu:threads=" + std::to_string(cpu_threads)};
  if (spec == "simt") return {"simt:exits=strict,arch=80", "simt:exits=strict,arch=86", "simt:exits=strict,arch=90"};
  return {spec};
}

std::string GemmShape::text() const {
  std::ostringstream out;
  out << groups << " groups, rows " << rows << ", n " << n << ", k " << k << (ragged ? ", ragged" : "") << (gather ? ", gather" : "");
  for (int64_t offset : offsets) out << ' ' << offset;
  return out.str();
}

std::vector<float> random_values(Random& random, Data data, int64_t count) {
  return data == Data::kIntegers ? random.integers(count, -3, 3) : random.reals(count);
}

PackedWeights::PackedWeights(TestDevice& device, Random& random, const GemmShape& shape, int32_t transposed, int32_t dtype, Data data)
    : shape_(shape),
      transposed_(transposed),
      dtype_(dtype),
      weights_(device, CUDAMOE_F32, {shape.groups, shape.n, shape.k, shape.k + random.integer(0, 3), 0}, random.integer(0, 3)) {
  Matrix::Layout layout = weights_.layout();
  layout.group_stride = layout.rows * layout.row_stride + random.integer(0, 3);
  weights_ = Matrix(device, CUDAMOE_F32, layout, random.integer(0, 3));
  weights_.fill(random_values(random, data, layout.elements()));
  pack(device);
}

void PackedWeights::pack(TestDevice& device) {
  cudamoe_gemm_pack_args args{};
  args.struct_size = sizeof args;
  args.groups = static_cast<int32_t>(shape_.groups);
  args.n = shape_.n;
  args.k = shape_.k;
  args.weights = static_cast<const float*>(weights_.data());
  args.weights_row_stride = weights_.layout().row_stride;
  args.weights_group_stride = weights_.layout().group_stride;
  args.transposed = transposed_;
  args.dtype = dtype_;
  int64_t bytes = 0;
  if (cudamoe_gemm_packed_bytes(device.stream(), &args, &bytes) != CUDAMOE_OK) throw std::runtime_error(last_error());
  packed_ = std::make_unique<Workspace>(device, bytes);
  args.packed = packed_->data();
  args.packed_bytes = bytes;
  if (cudamoe_gemm_pack(device.stream(), &args) != CUDAMOE_OK) throw std::runtime_error(last_error());
  if (!packed_->guards_intact()) throw std::runtime_error("cudamoe_gemm_pack wrote beyond packed_bytes");
}

}  // namespace cudamoe::test
