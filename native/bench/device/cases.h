// The operations of the engine at the reference shape: B samples of D = 256 inputs, 16 experts of 256 -> 128 -> 64, two a sample, 3 tasks.
// One list for what is counted on the executor and what is measured on a GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "device/engine.h"

namespace cudamoe::bench {

inline constexpr int64_t kReferenceBatch = 65536;

// What one run of an operation has to do at least: bytes that it must read and write once, multiply-adds twice.
struct Floor {
  double bytes = 0, operations = 0;
};

// A product that other libraries have too: groups of rows of x [rows, k] with w [groups, n, k].
struct GroupedProduct {
  const void* x = nullptr;
  const void* weights = nullptr;
  void* y = nullptr;
  std::vector<int64_t> offsets;
  int64_t n = 0, k = 0;
};

struct Prepared {
  std::function<void()> run;
  Floor floor;
  GroupedProduct peer;  // of bf16; empty where there is none
};

struct Case {
  std::string name;
  std::function<Prepared(DeviceEngine&, int64_t batch)> prepare;
};

std::vector<Case> gating_cases();
std::vector<Case> gemm_cases();
std::vector<Case> expert_cases();
std::vector<Case> embedding_cases();
std::vector<Case> row_cases();       // combine, norm, loss, balance, optimizer
std::vector<Case> sequence_cases();  // attention, graph

}  // namespace cudamoe::bench
