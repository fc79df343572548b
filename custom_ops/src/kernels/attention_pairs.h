// SPDX-License-Identifier: Apache-2.0
// What attention asks of a (row, head) pair, whatever the format of the cache. Included by each instruction set.
#pragma once
#include "kernels.h"
#include "vector8.h"

namespace edge_vlm {
namespace EDGE_VLM_ISA {

// Where a pair's result goes in y, and the first position that it may not see.
struct QueryPlace {
  size_t output;
  int limit;
};

EDGE_VLM_INLINE QueryPlace place_of(const AttendArgs& args, int kv_head, int pair) {
  const AttentionShape& shape = args.cache->shape;
  const int group = shape.query_heads / shape.kv_heads, row = pair / group, head = kv_head * group + pair % group;
  const size_t output = (static_cast<size_t>(row) * shape.query_heads + head) * shape.head_dim;
  return {output, shape.causal ? args.positions[row] + 1 : args.cache->end};
}

// Hide what this query may not see: keys from `limit` on, and positions never written.
static void mask_scores(float* scores, int limit, int padded, const AttentionCache& cache) {
  const float hidden = -__builtin_inff();
  for (int key = limit; key < padded; key++) scores[key] = hidden;
  if (cache.written_count == cache.end) return;
  for (int key = 0; key < limit; key++)
    if (!cache.written[key]) scores[key] = hidden;
}

}  // namespace EDGE_VLM_ISA
}  // namespace edge_vlm
