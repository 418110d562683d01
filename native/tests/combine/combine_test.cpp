// cudamoe_combine_forward and _backward against the double-precision reference, on exact and random data, dense and sparse.
#include "reference/combine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "support/buffer.h"
#include "support/compare.h"
#include "support/random.h"
#include "support/rows.h"

namespace cudamoe::test {
namespace {

using reference::CombineShape;

struct Case {
  CombineShape shape{};
  bool sparse = false, bf16 = false;
  bool residual = false, scaled = false;
  bool wants_dgates = true, wants_dresidual = false, accumulate = false;
  bool expert_major = false;  // experts one after the other instead of side by side
  int32_t activation = CUDAMOE_ACTIVATION_NONE;
  float slope = 0.25f;
  int64_t gap = 0;  // elements between rows
  int64_t misaligned = 0;
  int64_t expert_rows = 0;
  std::vector<float> gates, residuals, expert, preactivation, dy, scale, dresidual;  // contiguous
  std::vector<int32_t> slots;
};

struct Result {
  std::vector<float> y, dexpert, dgates, dresidual;
  cudamoe_status report = CUDAMOE_OK;
};

// Where element (outer, inner, j) of an array lies.
struct Layout {
  int64_t outer, inner, width, outer_stride, inner_stride;

  int64_t size() const {
    return outer == 0 || inner == 0 || width == 0 ? 0 : (outer - 1) * outer_stride + (inner - 1) * inner_stride + width;
  }
  template <class T>
  std::vector<T> place(const std::vector<T>& values, T fill) const {
    std::vector<T> out(size(), fill);
    for_each([&](int64_t at, int64_t i) { out[at] = values[i]; });
    return out;
  }
  template <class T>
  std::vector<T> pick(const std::vector<T>& values) const {
    std::vector<T> out(outer * inner * width);
    for_each([&](int64_t at, int64_t i) { out[i] = values[at]; });
    return out;
  }
  template <class Body>
  void for_each(Body&& body) const {
    int64_t i = 0;
    for (int64_t a = 0; a < outer; ++a) {
      for (int64_t b = 0; b < inner; ++b) {
        for (int64_t j = 0; j < width; ++j) body(a * outer_stride + b * inner_stride + j, i++);
      }
    }
  }
};

Layout nested(int64_t outer, int64_t inner, int64_t width, int64_t gap, bool inner_major) {
  const int64_t row = width + gap;
  return inner_major ? Layout{outer, inner, width, row, std::max<int64_t>(outer, 1) * row}
                     : Layout{outer, inner, width, inner * row + gap, row};
}

template <class T>
std::vector<T> encode(const std::vector<float>& v) {
  if constexpr (sizeof(T) == 2) {
    return to_bf16(v);
  } else {
    return v;
  }
}

template <class T>
std::vector<float> decode(const std::vector<T>& v) {
  if constexpr (sizeof(T) == 2) {
    return from_bf16(v);
  } else {
    return v;
  }
}

// Both passes with experts of element type T (float or uint16_t).
template <class T>
Result run_as(TestDevice& device, const Case& c) {
  const auto& s = c.shape;
  const T poison = encode<T>({std::numeric_limits<float>::quiet_NaN()})[0];
  const Layout experts =
      c.sparse ? Layout{c.expert_rows, 1, s.width, s.width + c.gap, 0} : nested(s.rows, s.choices, s.width, c.gap, c.expert_major);
  const Layout gradients =
      c.sparse ? Layout{c.expert_rows, 1, s.width, s.width + 2 * c.gap, 0} : nested(s.rows, s.choices, s.width, 2 * c.gap, !c.expert_major);
  const Layout outputs = nested(s.rows, s.tasks, s.width, c.gap, c.expert_major);

  const Buffer<float> gates(device, c.gates, c.misaligned), residual(device, c.residuals), scale(device, c.scale);
  const Buffer<int32_t> slots(device, c.slots);
  const Buffer<T> expert(device, experts.place(encode<T>(c.expert), poison), c.misaligned);
  const Buffer<T> preactivation(device, c.preactivation.empty() ? std::vector<T>() : experts.place(encode<T>(c.preactivation), poison));
  const Buffer<float> y(device, outputs.size(), c.misaligned);

  cudamoe_combine_forward_args f{};
  f.struct_size = sizeof f;
  f.tasks = static_cast<int32_t>(s.tasks);
  f.rows = s.rows;
  f.width = s.width;
  f.choices = static_cast<int32_t>(s.choices);
  f.gates = gates.data();
  f.residual = c.residual ? residual.data() : nullptr;
  f.slot_of_pair = c.sparse ? slots.data() : nullptr;
  f.expert = expert.data();
  f.expert_row_stride = experts.outer_stride;
  f.expert_stride = experts.inner_stride;
  f.expert_rows = c.expert_rows;
  f.y = y.data();
  f.y_row_stride = outputs.outer_stride;
  f.y_task_stride = outputs.inner_stride;
  f.expert_dtype = sizeof(T) == 2 ? CUDAMOE_BF16 : CUDAMOE_F32;
  CUDAMOE_EXPECT_OK(cudamoe_combine_forward(device.stream(), &f));
  Result result;
  result.report = cudamoe_stream_synchronize(device.stream());
  result.y = outputs.pick(y.get());

  const Buffer<float> dy(device, outputs.place(c.dy, 0.0f));
  const Buffer<T> dexpert(device, gradients.size(), c.misaligned);
  const Buffer<float> dgates(device, c.wants_dgates ? s.rows * s.tasks * s.choices : 0);
  Buffer<float> dresidual(device, c.wants_dresidual ? s.tasks * s.choices : 0);
  if (c.accumulate) dresidual.set(c.dresidual);
  cudamoe_combine_backward_args b{};
  b.struct_size = sizeof b;
  b.tasks = f.tasks;
  b.rows = f.rows;
  b.width = f.width;
  b.choices = f.choices;
  b.activation = c.activation;
  b.activation_slope = c.slope;
  b.expert_dtype = f.expert_dtype;
  int64_t bytes = -1;
  CUDAMOE_EXPECT_OK(cudamoe_combine_backward_workspace(device.stream(), &b, &bytes));
  const Workspace workspace(device, bytes);
  b.gates = f.gates;
  b.residual = f.residual;
  b.slot_of_pair = f.slot_of_pair;
  b.expert = f.expert;
  b.preactivation = c.preactivation.empty() ? nullptr : preactivation.data();
  b.expert_row_stride = f.expert_row_stride;
  b.expert_stride = f.expert_stride;
  b.expert_rows = f.expert_rows;
  b.dy = dy.data();
  b.dy_row_stride = outputs.outer_stride;
  b.dy_task_stride = outputs.inner_stride;
  b.task_scale = c.scaled ? scale.data() : nullptr;
  b.dexpert = dexpert.data();
  b.dexpert_row_stride = gradients.outer_stride;
  b.dexpert_stride = gradients.inner_stride;
  b.dgates = c.wants_dgates ? dgates.data() : nullptr;
  b.dresidual = c.wants_dresidual ? dresidual.data() : nullptr;
  b.accumulate_residual = c.accumulate;
  b.workspace = workspace.data();
  b.workspace_bytes = bytes;
  CUDAMOE_EXPECT_OK(cudamoe_combine_backward(device.stream(), &b));
  EXPECT_EQ(cudamoe_stream_synchronize(device.stream()), result.report);
  result.dexpert = decode<T>(gradients.pick(dexpert.get()));
  result.dgates = dgates.get();
  result.dresidual = dresidual.get();
  EXPECT_TRUE(y.guards_intact() && dexpert.guards_intact() && dgates.guards_intact() && dresidual.guards_intact());
  EXPECT_TRUE(workspace.guards_intact());
  return result;
}

Result run(TestDevice& device, const Case& c) { return c.bf16 ? run_as<uint16_t>(device, c) : run_as<float>(device, c); }

bool reads_preactivation(int32_t activation) { return activation == CUDAMOE_ACTIVATION_GELU || activation == CUDAMOE_ACTIVATION_SILU; }

// Distinct slots in random order, some pairs dropped, some rows beyond the routed ones.
void route(Case& c, Random& random) {
  const int64_t pairs = c.shape.rows * c.shape.tasks * c.shape.choices;
  c.slots.resize(pairs);
  std::vector<int32_t> order(pairs);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = pairs - 1; i > 0; --i) std::swap(order[i], order[random.integer(0, i)]);
  int32_t next = 0;
  for (int64_t i = 0; i < pairs; ++i) c.slots[order[i]] = random.integer(0, 5) == 0 ? -1 : next++;
  c.expert_rows = next + 3;
}

// Fills the data of a case whose shape and options are set.
void fill(Case& c, Random& random, bool exact) {
  const auto& s = c.shape;
  const auto draw = [&](int64_t n) { return exact ? random.integers(n) : random.reals(n); };
  c.gates = draw(s.rows * s.tasks * s.choices);
  if (c.residual) c.residuals = draw(s.tasks * s.choices);
  if (c.scaled) c.scale = draw(s.tasks);
  c.dy = draw(s.rows * s.tasks * s.width);
  if (c.accumulate) c.dresidual = draw(s.tasks * s.choices);
  if (c.sparse) route(c, random);
  const int64_t elements = (c.sparse ? c.expert_rows : s.rows * s.choices) * s.width;
  std::vector<float> input = draw(elements);
  for (float& x : input) x *= exact ? 1.0f : 3.0f;
  if (c.bf16) input = rounded_to_bf16(input);
  c.expert.resize(elements);
  for (int64_t i = 0; i < elements; ++i) {
    c.expert[i] = static_cast<float>(reference::activate(c.activation, static_cast<double>(c.slope), static_cast<double>(input[i])));
  }
  if (c.bf16) c.expert = rounded_to_bf16(c.expert);
  if (reads_preactivation(c.activation)) c.preactivation = input;
}

// The derivative at each expert element as the operation must take it: from the output, or the pre-activation.
std::vector<double> factors(const Case& c) {
  std::vector<double> factor(c.expert.size(), 1.0);
  for (size_t i = 0; i < factor.size(); ++i) {
    const double y = static_cast<double>(c.expert[i]);
    if (c.activation == CUDAMOE_ACTIVATION_SIGMOID) {
      factor[i] = y * (1 - y);
    } else if (c.activation == CUDAMOE_ACTIVATION_TANH) {
      factor[i] = 1 - y * y;
    } else {
      const double from = reads_preactivation(c.activation) ? static_cast<double>(c.preactivation[i]) : y;
      factor[i] = reference::activate_derivative(c.activation, static_cast<double>(c.slope), from);
    }
  }
  return factor;
}

template <class Have>
void expect_equal(const std::vector<Have>& have, const std::vector<double>& want, const char* what) {
  for (size_t i = 0; i < have.size(); ++i) ASSERT_EQ(static_cast<double>(have[i]), want[i]) << what << " " << i;
}

// Sets rows of dexpert that are not routed to 0, after checking that they were not written.
void clear_unrouted(const Case& c, std::vector<float>& dexpert) {
  std::vector<bool> routed(c.expert_rows, false);
  for (int32_t slot : c.slots) {
    if (slot >= 0) routed[slot] = true;
  }
  for (size_t i = 0; i < dexpert.size(); ++i) {
    if (routed[static_cast<int64_t>(i) / c.shape.width]) continue;
    EXPECT_TRUE(std::isnan(dexpert[i])) << "a row that is not routed was written";
    dexpert[i] = 0;
  }
}

void check(TestDevice& device, const Case& c, bool exact) {
  Result have = run(device, c);
  EXPECT_EQ(have.report, CUDAMOE_OK) << last_error();
  const std::vector<double> scale = c.scaled ? wide(c.scale) : std::vector<double>(c.shape.tasks, 1.0);
  const std::vector<double> y = reference::combine(c.shape, wide(c.gates), wide(c.residuals), wide(c.expert), c.slots);
  reference::CombineGradient want =
      reference::combine_gradient(c.shape, wide(c.gates), wide(c.residuals), wide(c.expert), factors(c), c.slots, wide(c.dy), scale);
  for (size_t i = 0; c.accumulate && i < c.dresidual.size(); ++i) want.dresidual[i] += static_cast<double>(c.dresidual[i]);
  if (c.sparse) clear_unrouted(c, have.dexpert);
  if (exact) {
    expect_equal(have.y, y, "y");
    expect_equal(have.dgates, want.dgates, "dgates");
    expect_equal(have.dresidual, want.dresidual, "dresidual");
    if (c.bf16) {
      for (double& x : want.dexpert) x = static_cast<double>(from_bf16(to_bf16(static_cast<float>(x))));
    }
    expect_equal(have.dexpert, want.dexpert, "dexpert");
    return;
  }
  EXPECT_LE(relative_error(have.y, y), f32_bound(c.shape.choices));
  EXPECT_LE(relative_error(have.dexpert, want.dexpert), c.bf16 ? 4e-3 : f32_bound(c.shape.tasks) + 1e-6);
  if (c.wants_dgates) {
    EXPECT_LE(relative_error(have.dgates, want.dgates), f32_bound(c.shape.width)) << "dgates";
  }
  if (c.wants_dresidual) {
    EXPECT_LE(relative_error(have.dresidual, want.dresidual), f32_bound(c.shape.width)) << "dresidual";
  }
}

std::string name(const Case& c) {
  return "rows " + std::to_string(c.shape.rows) + " tasks " + std::to_string(c.shape.tasks) + " choices " +
         std::to_string(c.shape.choices) + " width " + std::to_string(c.shape.width) + (c.sparse ? " sparse" : " dense") +
         (c.bf16 ? " bf16" : "") + " activation " + std::to_string(c.activation);
}

TEST(Combine, ExactAndRandomDataOverShapes) {
  TestDevice device;
  Random random(21);
  const CombineShape shapes[] = {{0, 2, 3, 8},    {1, 1, 1, 1},   {1, 2, 2, 2},    {5, 1, 3, 7},   {3, 2, 4, 0},   {33, 3, 8, 128},
                                 {70, 3, 8, 33},  {17, 4, 5, 64}, {9, 5, 3, 100},  {11, 9, 2, 17}, {4, 2, 65, 20}, {3, 6, 130, 19},
                                 {2, 7, 3, 2500}, {300, 2, 2, 3}, {19, 1, 6, 256}, {8, 13, 4, 31}};
  for (const CombineShape& shape : shapes) {
    for (int variant = 0; variant < 8; ++variant) {
      Case c;
      c.shape = shape;
      c.sparse = variant % 2 == 1;
      c.bf16 = variant / 2 % 2 == 1;
      c.residual = !c.sparse && random.coin();
      c.scaled = random.coin();
      c.wants_dresidual = !c.sparse && random.coin();
      c.wants_dgates = random.integer(0, 3) > 0;
      c.accumulate = c.wants_dresidual && random.coin();
      c.expert_major = random.coin();
      c.gap = random.integer(0, 2) * random.integer(0, 9);
      c.misaligned = random.integer(0, 3);
      const bool exact = variant < 4;
      c.activation = static_cast<int32_t>(random.integer(0, exact ? CUDAMOE_ACTIVATION_LEAKY_RELU : CUDAMOE_ACTIVATION_TANH));
      fill(c, random, exact);
      SCOPED_TRACE(name(c));
      check(device, c, exact);
    }
  }
}

TEST(Combine, AlignedRows) {
  TestDevice device;
  Random random(29);
  for (int variant = 0; variant < 4; ++variant) {
    Case c;
    c.shape = {37, 2, 3, 72};
    c.sparse = variant % 2 == 1;
    c.bf16 = variant / 2 == 1;
    c.wants_dgates = true;
    c.activation = CUDAMOE_ACTIVATION_RELU;
    fill(c, random, true);
    SCOPED_TRACE(name(c));
    check(device, c, true);
  }
}

// Rows of every number of lanes that read them 16 bytes at a time, by activations whose derivative is a choice and by smooth ones.
TEST(Combine, AlignedRowsOfEveryWidth) {
  TestDevice device;
  Random random(31);
  for (const int64_t width : {16, 48, 64, 96, 128, 192}) {
    for (const int64_t tasks : {1, 3, 6}) {
      for (int variant = 0; variant < 8; ++variant) {
        Case c;
        c.shape = {7, 3, tasks, width};
        c.sparse = variant % 2 == 1;
        c.bf16 = variant / 2 % 2 == 1;
        c.wants_dgates = true;
        const bool smooth = variant / 4 == 1;
        c.activation = smooth ? CUDAMOE_ACTIVATION_TANH : CUDAMOE_ACTIVATION_LEAKY_RELU;
        fill(c, random, false);
        SCOPED_TRACE(name(c));
        check(device, c, false);
      }
    }
  }
}

TEST(Combine, EveryActivationInBothLayouts) {
  TestDevice device;
  Random random(22);
  for (int32_t activation = CUDAMOE_ACTIVATION_NONE; activation <= CUDAMOE_ACTIVATION_TANH; ++activation) {
    for (int variant = 0; variant < 4; ++variant) {
      Case c;
      c.shape = {12, 5, 3, 37};
      c.sparse = variant % 2 == 1;
      c.bf16 = variant / 2 == 1;
      c.activation = activation;
      fill(c, random, false);
      SCOPED_TRACE(name(c));
      check(device, c, false);
    }
  }
}

TEST(Combine, AZeroScaleLeavesATaskOut) {
  TestDevice device;
  Random random(26);
  for (const std::vector<float>& scale : std::vector<std::vector<float>>{
           {0}, {0, 2}, {2, 0}, {1, 0, 3}, {0, 0, 0}, {0, 1, 2, 1, 0, 2, -1}, {1, 2, 1, 2, -0.0f, 1}, {0, 0, 0, 0, 0, 0, 1}}) {
    for (int variant = 0; variant < 8; ++variant) {
      Case c;
      c.shape = {21, static_cast<int64_t>(scale.size()), 3, variant < 4 ? 37 : 1100};
      c.sparse = variant % 2 == 1;
      c.bf16 = variant / 2 % 2 == 1;
      c.scaled = true;
      c.wants_dresidual = !c.sparse;
      c.activation = CUDAMOE_ACTIVATION_RELU;
      fill(c, random, true);
      c.scale = scale;
      for (size_t i = 0; i < c.dy.size(); ++i) {
        if (scale[i / c.shape.width % scale.size()] == 0) c.dy[i] = std::numeric_limits<float>::quiet_NaN();
      }
      SCOPED_TRACE(name(c));
      check(device, c, true);
    }
  }
}

// Outputs of more than 8 MiB are written past the caches, where their layout allows it.
TEST(Combine, LargeOutputs) {
  TestDevice device;
  Random random(25);
  for (bool sparse : {false, true}) {
    for (int64_t width : {160, 163}) {
      Case c;
      c.shape = {test_device_is_slow() ? 66 : 6600, 2, 2, width};
      c.sparse = sparse;
      c.activation = CUDAMOE_ACTIVATION_RELU;
      fill(c, random, true);
      SCOPED_TRACE(name(c));
      check(device, c, true);
    }
  }
}

// One level of AdaTT (Li et al. 2023) with given gates, native weights and expert outputs, computed by hand.
TEST(Combine, AdaTtCheckValues) {
  TestDevice device;
  Case c;
  c.shape = {1, 2, 4, 2};
  c.residual = true;
  c.gates = {0.308296f, 0.160945f, 0.206657f, 0.324103f, 0.289892f, 0.275753f, 0.184843f, 0.249512f};
  c.residuals = {0.6f, -0.2f, 0, 0, 0, 0, 0.1f, 0.7f};
  c.expert = {1, 0, 0.85f, 0.5f, 0, 0.075f, 1.5f, 0.8f};
  c.dy = {0, 0, 0, 0};
  const Result have = run(device, c);
  const double want[] = {1.361253, 0.255254, 1.948550, 0.918850};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(static_cast<double>(have.y[i]), want[i], 2e-6);
}

TEST(Combine, DerivativeOfTheReferenceIsRight) {
  Random random(23);
  for (bool sparse : {false, true}) {
    for (int32_t activation = CUDAMOE_ACTIVATION_NONE; activation <= CUDAMOE_ACTIVATION_TANH; ++activation) {
      Case c;
      c.shape = {3, 2, 2, 3};
      c.sparse = sparse;
      c.residual = !sparse;
      c.scaled = true;
      c.activation = activation;
      fill(c, random, false);
      const double slope = static_cast<double>(c.slope);
      std::vector<double> input(c.expert.size()), gates = wide(c.gates), residual = wide(c.residuals);
      for (double& x : input) x = random.real(-2, 2);
      const std::vector<double> dy = wide(c.dy), scale = wide(c.scale);
      std::vector<double> expert, factor;
      // The sum of scale dy y over all elements, as a function of everything upstream.
      const auto value = [&] {
        expert.clear();
        factor.clear();
        for (double x : input) {
          expert.push_back(reference::activate(activation, slope, x));
          factor.push_back(reference::activate_derivative(activation, slope, x));
        }
        const std::vector<double> y = reference::combine(c.shape, gates, residual, expert, c.slots);
        double sum = 0;
        for (size_t i = 0; i < y.size(); ++i) sum += scale[static_cast<int64_t>(i) / c.shape.width % c.shape.tasks] * dy[i] * y[i];
        return sum;
      };
      value();
      const reference::CombineGradient g = reference::combine_gradient(c.shape, gates, residual, expert, factor, c.slots, dy, scale);
      const auto compare = [&](std::vector<double>& variable, const std::vector<double>& gradient) {
        for (size_t i = 0; i < variable.size(); ++i) {
          const double x = variable[i], step = 1e-6;
          variable[i] = x + step;
          const double above = value();
          variable[i] = x - step;
          const double below = value();
          variable[i] = x;
          EXPECT_NEAR(gradient[i], (above - below) / (2 * step), 1e-7) << "activation " << activation;
        }
      };
      compare(input, g.dexpert);
      compare(gates, g.dgates);
      compare(residual, g.dresidual);
    }
  }
}

TEST(Combine, BadSlotsAreReportedAndGiveNothing) {
  TestDevice device;
  for (int32_t bad : {3, -2, 1 << 30}) {
    Case c;
    c.shape = {2, 1, 2, 4};
    c.sparse = true;
    c.expert_rows = 3;
    c.gates = {1, 2, 3, 4};
    c.slots = {0, bad, 2, -1};
    c.expert = {1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    c.dy = {1, 1, 1, 1, 1, 1, 1, 1};
    const Result have = run(device, c);
    EXPECT_EQ(have.report, CUDAMOE_ERROR_REPORTED);
    EXPECT_NE(last_error().find("slot_of_pair[1] is " + std::to_string(bad)), std::string::npos) << last_error();
    EXPECT_EQ(have.y, (std::vector<float>{1, 1, 1, 1, 9, 9, 9, 9}));
    EXPECT_EQ(have.dgates, (std::vector<float>{4, 0, 12, 0}));
  }
}

TEST(Combine, SameBitsForAnyOrder) {
  Random random(24);
  for (bool sparse : {false, true}) {
    Case c;
    c.shape = {test_device_is_slow() ? 40 : 700, 3, 8, 65};
    c.sparse = sparse;
    c.residual = c.wants_dresidual = !sparse;
    c.activation = CUDAMOE_ACTIVATION_RELU;
    fill(c, random, false);
    Result first;
    for (const std::string& spec : repeated_device_specs()) {
      TestDevice device(spec);
      for (int repeat = 0; repeat < repetitions_of_a_spec(); ++repeat) {
        Result have = run(device, c);
        if (sparse) clear_unrouted(c, have.dexpert);
        if (first.y.empty()) first = have;
        ASSERT_EQ(have.y, first.y);
        ASSERT_EQ(have.dexpert, first.dexpert);
        ASSERT_EQ(have.dgates, first.dgates);
        ASSERT_EQ(have.dresidual, first.dresidual);
      }
    }
  }
}

// Rows 2^31 bytes apart need 64-bit addressing; only the pages that hold rows are touched.
TEST(Combine, ForwardRefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(1024, 0.0f));
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_combine_forward_args a{};
    a.struct_size = sizeof a;
    a.tasks = 2;
    a.rows = 3;
    a.width = 4;
    a.choices = 2;
    a.gates = p;
    a.expert = p + 64;
    a.expert_row_stride = 8;
    a.expert_stride = 4;
    a.y = p + 256;
    a.y_row_stride = 8;
    a.y_task_stride = 4;
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_combine_forward(device.stream(), &a), words);
  };
  const int32_t slots[12] = {};
  refused([](auto& a) { a.struct_size = 4; }, "struct_size");
  refused([](auto& a) { a.tasks = 0; }, "tasks is 0");
  refused([](auto& a) { a.rows = -1; }, "rows is -1");
  refused([](auto& a) { a.width = -1; }, "width is -1");
  refused([](auto& a) { a.choices = 0; }, "choices is 0");
  refused([](auto& a) { a.choices = 5000; }, "choices is 5000");
  refused([](auto& a) { a.reserved = 1; }, "reserved is 1");
  refused([](auto& a) { a.reserved2 = 1; }, "reserved2 is 1");
  refused([](auto& a) { a.expert_dtype = 2; }, "expert_dtype is 2");
  refused([](auto& a) { a.gates = nullptr; }, "gates is null");
  refused([](auto& a) { a.expert = nullptr; }, "expert is null");
  refused([](auto& a) { a.y = nullptr; }, "y is null");
  refused([](auto& a) { a.expert_row_stride = 3; }, "expert_row_stride is 3");
  refused([](auto& a) { a.expert_stride = 3; }, "expert_stride is 3");
  refused([](auto& a) { a.expert_row_stride = 7; }, "do not overlap");
  refused([](auto& a) { a.y_row_stride = 7; }, "do not overlap");
  refused([](auto& a) { a.y_task_stride = 1; }, "y_task_stride is 1");
  refused([](auto& a) { a.expert_row_stride = int64_t{1} << 50; }, "expert_row_stride");
  refused([](auto& a) { a.y = const_cast<float*>(a.gates); }, "overlaps");
  refused([](auto& a) { a.y = static_cast<float*>(const_cast<void*>(a.expert)) + 2; }, "overlaps");
  refused([](auto& a) { a.residual = reinterpret_cast<const float*>(1); }, "residual");
  refused([&](auto& a) { a.slot_of_pair = slots, a.residual = a.gates; }, "residual");
  refused([&](auto& a) { a.slot_of_pair = slots, a.expert_rows = -1; }, "expert_rows is -1");
}

TEST(Combine, BackwardRefusesBadArguments) {
  TestDevice device;
  const Buffer<float> data(device, std::vector<float>(1024, 0.0f));
  const Workspace workspace(device, 65536);
  float* p = data.data();
  const auto refused = [&](auto&& change, const char* words) {
    cudamoe_combine_backward_args a{};
    a.struct_size = sizeof a;
    a.tasks = 2;
    a.rows = 3;
    a.width = 4;
    a.choices = 2;
    a.gates = p;
    a.expert = p + 64;
    a.expert_row_stride = a.dexpert_row_stride = 8;
    a.expert_stride = a.dexpert_stride = 4;
    a.dy = p + 128;
    a.dy_row_stride = 8;
    a.dy_task_stride = 4;
    a.dexpert = p + 256;
    a.dgates = p + 512;
    a.dresidual = p + 600;
    a.workspace = workspace.data();
    a.workspace_bytes = workspace.size();
    change(a);
    CUDAMOE_EXPECT_REFUSED(cudamoe_combine_backward(device.stream(), &a), words);
  };
  const int32_t slots[12] = {};
  refused([](auto& a) { a.activation = 7; }, "activation is 7");
  refused([](auto& a) { a.activation = CUDAMOE_ACTIVATION_GELU; }, "preactivation is null");
  refused([](auto& a) { a.activation = CUDAMOE_ACTIVATION_LEAKY_RELU, a.activation_slope = NAN; }, "activation_slope");
  refused([](auto& a) { a.dy = nullptr; }, "dy is null");
  refused([](auto& a) { a.dexpert = nullptr; }, "dexpert is null");
  refused([](auto& a) { a.dy_task_stride = 2; }, "dy_task_stride is 2");
  refused([](auto& a) { a.dexpert_row_stride = 5; }, "do not overlap");
  refused([](auto& a) { a.accumulate_residual = 2; }, "accumulate_residual is 2");
  refused([](auto& a) { a.reserved = 2; }, "reserved is 2");
  refused([](auto& a) { a.dexpert = const_cast<void*>(a.expert); }, "overlaps");
  refused([](auto& a) { a.dgates = const_cast<float*>(a.gates); }, "overlaps");
  refused([](auto& a) { a.workspace_bytes = 8; }, "workspace_bytes is 8");
  refused([&](auto& a) { a.slot_of_pair = slots; }, "dresidual");
}

}  // namespace
}  // namespace cudamoe::test
