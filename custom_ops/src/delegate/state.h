// SPDX-License-Identifier: Apache-2.0
// What lives as long as the delegate: the kernels chosen, the threads, scratch memory, and the caches that the
// signatures of an interpreter share.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "attention_cache.h"
#include "huge_pages.h"
#include "kernels.h"
#include "ternary_weights.h"
#include "weight_total.h"
#include "worker_pool.h"

namespace edge_vlm {

// Scratch that grows and never shrinks.
class Scratch {
 public:
  // 64-byte aligned, contents undefined. Throws Fault where memory is short.
  void* reserve(size_t bytes);

 private:
  ZeroedArray<char> memory_;
  size_t bytes_ = 0;
};

struct TokenCache {
  int capacity, width;
  ZeroedArray<float> rows;  // (capacity, width)
};

constexpr int64_t kMaxCacheBytes = int64_t{1} << 30;  // one cache; more is a damaged file, not a model for a robot

class DelegateState {
 public:
  DelegateState(const Kernels& kernels, const PoolOptions& threads, DenseWeights dense)
      : kernels(kernels), pool(threads), ternary(dense, kernels.reads_dense(), weights) {}

  // The cache of this id, made at its first use. Throws Fault where the id is taken by a cache of another shape, or
  // the shape is absurd. References stay valid as long as the state.
  AttentionCache& attention_cache(int id, const AttentionShape& shape);
  TokenCache& token_cache(int id, int capacity, int width);

  // Scratch for rows as int8 with sums of every group (0: the whole row), until the next call of this or `quantized`.
  QuantizedRows reserve_quantized(size_t rows, int width, int group_size, int panel_rows = 1);
  // q(x) of the rows of a Linear, in that scratch; and q(norm(x)), of which y is not used.
  QuantizedRows quantized(const float* x, int rows, int width, int group_size);
  QuantizedRows quantized(const NormArgs& args, int group_size);

  const Kernels& kernels;
  WorkerPool pool;
  WeightTotal weights;
  TernaryWeights ternary;
  Scratch quantized_memory, queries, scores;
  HugePages huge_pages;

 private:
  // Rows in that scratch, written panel by panel: write(first row, rows, where).
  template <typename Write>
  QuantizedRows in_panels(int rows, int width, int group_size, const Write& write);
  std::shared_ptr<const RotaryTable> rotary_table(const AttentionShape& shape);

  std::map<int, std::unique_ptr<AttentionCache>> attention_caches_;
  std::map<std::tuple<int, int, float>, std::shared_ptr<const RotaryTable>> rotary_tables_;
  std::map<int, TokenCache> token_caches_;
};

}  // namespace edge_vlm
