// Calls of a stream that are kept instead of run, for backends whose operations run when they are called and which so have no captures
// of their own.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "cudamoe.h"

namespace cudamoe {

// An operation's arguments, and what they point to on the host, which the caller may free after the call.
template <class Args>
struct KeptArguments {
  explicit KeptArguments(const Args& given) : args(given) {}
  Args args;
};

template <class T>
const T* keep(std::vector<T>& kept, const T* values, int64_t count) {
  if (values == nullptr) return nullptr;
  kept.assign(values, values + count);
  return kept.data();
}

template <class Args>
struct KeptTables {
  explicit KeptTables(const Args& given) : args(given) {
    args.tables = keep(tables, given.tables, given.table_count);
    args.features = keep(features, given.features, given.feature_count);
  }
  KeptTables(const KeptTables&) = delete;
  KeptTables& operator=(const KeptTables&) = delete;
  Args args;
  std::vector<cudamoe_embedding_table> tables;
  std::vector<cudamoe_embedding_feature> features;
};
template <class Args>
struct KeptCaches : KeptTables<Args> {
  explicit KeptCaches(const Args& given) : KeptTables<Args>(given) { this->args.caches = keep(caches, given.caches, given.table_count); }
  std::vector<cudamoe_embedding_cache> caches;
};
template <>
struct KeptArguments<cudamoe_embedding_forward_args> : KeptCaches<cudamoe_embedding_forward_args> {
  using KeptCaches::KeptCaches;
};
template <>
struct KeptArguments<cudamoe_embedding_update_args> : KeptCaches<cudamoe_embedding_update_args> {
  using KeptCaches::KeptCaches;
};
template <>
struct KeptArguments<cudamoe_embedding_cache_prepare_args> : KeptCaches<cudamoe_embedding_cache_prepare_args> {
  using KeptCaches::KeptCaches;
};
template <>
struct KeptArguments<cudamoe_embedding_cache_flush_args> {
  explicit KeptArguments(const cudamoe_embedding_cache_flush_args& given) : args(given) {
    args.tables = keep(tables, given.tables, given.table_count);
    args.caches = keep(caches, given.caches, given.table_count);
  }
  KeptArguments(const KeptArguments&) = delete;
  KeptArguments& operator=(const KeptArguments&) = delete;
  cudamoe_embedding_cache_flush_args args;
  std::vector<cudamoe_embedding_table> tables;
  std::vector<cudamoe_embedding_cache> caches;
};
template <>
struct KeptArguments<cudamoe_embedding_gradient_args> : KeptTables<cudamoe_embedding_gradient_args> {
  using KeptTables::KeptTables;
};

template <class Args>
struct KeptTensors {
  explicit KeptTensors(const Args& given) : args(given) { args.tensors = keep(tensors, given.tensors, given.tensor_count); }
  KeptTensors(const KeptTensors&) = delete;
  KeptTensors& operator=(const KeptTensors&) = delete;
  Args args;
  std::vector<cudamoe_optimizer_tensor> tensors;
};
template <>
struct KeptArguments<cudamoe_optimizer_norm_args> : KeptTensors<cudamoe_optimizer_norm_args> {
  using KeptTensors::KeptTensors;
};
template <>
struct KeptArguments<cudamoe_optimizer_step_args> : KeptTensors<cudamoe_optimizer_step_args> {
  using KeptTensors::KeptTensors;
};

template <>
struct KeptArguments<cudamoe_loss_args> {
  explicit KeptArguments(const cudamoe_loss_args& given) : args(given) { args.tasks = keep(tasks, given.tasks, given.task_count); }
  KeptArguments(const KeptArguments&) = delete;
  KeptArguments& operator=(const KeptArguments&) = delete;
  cudamoe_loss_args args;
  std::vector<cudamoe_loss_task> tasks;
};

template <>
struct KeptArguments<cudamoe_balance_factored_gram_args> {
  explicit KeptArguments(const cudamoe_balance_factored_gram_args& given) : args(given) {
    args.starts = keep(starts, given.starts, int64_t{given.tasks} + 1);
  }
  KeptArguments(const KeptArguments&) = delete;
  KeptArguments& operator=(const KeptArguments&) = delete;
  cudamoe_balance_factored_gram_args args;
  std::vector<int64_t> starts;
};

class Recording {
 public:
  template <class Args>
  void add(cudamoe_status (*operation)(void*, const Args&), void* stream, const Args& args) {
    const auto kept = std::make_shared<const KeptArguments<Args>>(args);
    calls_.push_back([operation, stream, kept] { return operation(stream, kept->args); });
  }
  void add(std::function<cudamoe_status()> call) { calls_.push_back(std::move(call)); }

  // All calls in their order; stops at the first that fails.
  cudamoe_status run() const {
    for (const auto& call : calls_) {
      if (const cudamoe_status status = call(); status != CUDAMOE_OK) return status;
    }
    return CUDAMOE_OK;
  }

 private:
  std::vector<std::function<cudamoe_status()>> calls_;
};

}  // namespace cudamoe
