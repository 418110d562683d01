#include "reference/gemm_reference.h"

#include <cmath>
#include <numbers>

#include "cudamoe.h"

namespace cudamoe::reference {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double normal_density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }

}  // namespace

double activate(int32_t activation, double x, double slope) {
  switch (activation) {
    case CUDAMOE_ACTIVATION_RELU:
      return x < 0 ? 0 : x;
    case CUDAMOE_ACTIVATION_LEAKY_RELU:
      return x < 0 ? slope * x : x;
    case CUDAMOE_ACTIVATION_GELU:
      return x * normal_cdf(x);
    case CUDAMOE_ACTIVATION_SILU:
      return x * sigmoid(x);
    case CUDAMOE_ACTIVATION_SIGMOID:
      return sigmoid(x);
    case CUDAMOE_ACTIVATION_TANH:
      return std::tanh(x);
    default:
      return x;
  }
}

double activation_derivative(int32_t activation, double below, double slope) {
  switch (activation) {
    case CUDAMOE_ACTIVATION_RELU:
      return below <= 0 ? 0 : 1;
    case CUDAMOE_ACTIVATION_LEAKY_RELU:
      return below <= 0 ? slope : 1;
    case CUDAMOE_ACTIVATION_GELU:
      return normal_cdf(below) + below * normal_density(below);
    case CUDAMOE_ACTIVATION_SILU:
      return sigmoid(below) * (1 + below * (1 - sigmoid(below)));
    case CUDAMOE_ACTIVATION_SIGMOID:
      return below * (1 - below);
    case CUDAMOE_ACTIVATION_TANH:
      return 1 - below * below;
    default:
      return 1;
  }
}

std::vector<GemmRow> gemm_rows(int64_t groups, int64_t rows, const std::vector<int64_t>& offsets, const std::vector<int32_t>& gather) {
  std::vector<GemmRow> all;
  for (int64_t group = 0; group < groups; ++group) {
    const auto g = static_cast<size_t>(group);
    const int64_t begin = offsets.empty() ? 0 : offsets[g], end = offsets.empty() ? rows : offsets[g + 1];
    for (int64_t row = begin; row < end; ++row) all.push_back({group, row, gather.empty() ? row : gather[static_cast<size_t>(row)]});
  }
  return all;
}

double forward_product(const GemmRow& row, int64_t j, int64_t k, const Operand& x, const Operand& w) {
  const double *const x_row = x.row(row.group, row.source), *const w_row = w.row(row.group, j);
  double sum = 0;
  for (int64_t t = 0; t < k; ++t) sum += x_row[t] * w_row[t];
  return sum;
}

double squares_of_terms(const GemmRow& row, int64_t j, int64_t k, const Operand& x, const Operand& w) {
  const double *const x_row = x.row(row.group, row.source), *const w_row = w.row(row.group, j);
  double sum = 0;
  for (int64_t t = 0; t < k; ++t) sum += x_row[t] * w_row[t] * x_row[t] * w_row[t];
  return sum;
}

double dgrad_product(const GemmRow& row, int64_t t, int64_t n, const Operand& dz, const Operand& w) {
  const double *const dz_row = dz.row(row.group, row.row), *const w_column = w.row(row.group, 0) + t;
  double sum = 0;
  for (int64_t j = 0; j < n; ++j) sum += dz_row[j] * w_column[j * w.row_stride];
  return sum;
}

double wgrad_sum(const std::vector<GemmRow>& rows, int64_t group, int64_t j, int64_t t, const Operand& dz, const Operand* x) {
  double sum = 0;
  for (const GemmRow& row : rows) {
    if (row.group == group) sum += dz.row(group, row.row)[j] * (x != nullptr ? x->row(group, row.source)[t] : 1.0);
  }
  return sum;
}

}  // namespace cudamoe::reference
