// The gemm family in double precision, the plainest way; see cudamoe.h.
#pragma once

#include <cstdint>
#include <vector>

namespace cudamoe::reference {

double activate(int32_t activation, double x, double slope);
// From the activation's output, or its input for GELU and SiLU.
double activation_derivative(int32_t activation, double below, double slope);

// A matrix of the row space or of weights: groups of rows, the columns of a row one after the other.
struct Operand {
  std::vector<double> values;
  int64_t row_stride, group_stride;  // group_stride 0: one matrix for all groups

  const double* row(int64_t group, int64_t row) const { return values.data() + group * group_stride + row * row_stride; }
};

// A row of a product: its group, its number in the row space and the row of x that it reads.
struct GemmRow {
  int64_t group, row, source;
};
// offsets empty: strided groups; gather empty: none.
std::vector<GemmRow> gemm_rows(int64_t groups, int64_t rows, const std::vector<int64_t>& offsets, const std::vector<int32_t>& gather);

// sum over t of x[row, t] * w[j, t].
double forward_product(const GemmRow& row, int64_t j, int64_t k, const Operand& x, const Operand& w);
// sum over t of (x[row, t] * w[j, t])^2.
double squares_of_terms(const GemmRow& row, int64_t j, int64_t k, const Operand& x, const Operand& w);
// sum over j of dz[row, j] * w[j, t].
double dgrad_product(const GemmRow& row, int64_t t, int64_t n, const Operand& dz, const Operand& w);
// sum over the rows of `group` of dz[row, j] * x[source, t]; x null: of dz[row, j].
double wgrad_sum(const std::vector<GemmRow>& rows, int64_t group, int64_t j, int64_t t, const Operand& dz, const Operand* x);

}  // namespace cudamoe::reference
