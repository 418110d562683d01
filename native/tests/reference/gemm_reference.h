// The gemm family in double precision, the plainest way; see cudamoe.h.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace cudamoe::reference {

double activate(int32_t activation, double x, double slope);
// From the activation's output, or its input for GELU and SiLU.
double activation_derivative(int32_t activation, double below, double slope);

// Element (group, row, column) of a matrix of the row space, of weights, or of a vector with column 0.
using Element = std::function<double(int64_t group, int64_t row, int64_t column)>;

// A row of a product: its group, its number in the row space and the row of x that it reads.
struct GemmRow {
  int64_t group, row, source;
};
// offsets empty: strided groups; gather empty: none.
std::vector<GemmRow> gemm_rows(int64_t groups, int64_t rows, const std::vector<int64_t>& offsets, const std::vector<int32_t>& gather);

// sum over t of x[row, t] * w[j, t].
double forward_product(const GemmRow& row, int64_t j, int64_t k, const Element& x, const Element& w);
// sum over j of dz[row, j] * w[j, t].
double dgrad_product(const GemmRow& row, int64_t t, int64_t n, const Element& dz, const Element& w);
// sum over the rows of `group` of dz[row, j] * x[source, t]; x null: of dz[row, j].
double wgrad_sum(const std::vector<GemmRow>& rows, int64_t group, int64_t j, int64_t t, const Element& dz, const Element& x);

}  // namespace cudamoe::reference
