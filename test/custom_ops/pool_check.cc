// SPDX-License-Identifier: Apache-2.0
// Every task of every call runs exactly once, whichever threads come in time; meant for the thread sanitizer.
#include <cstdio>
#include <vector>

#include "worker_pool.h"

namespace {

int wrong_counts(const edge_vlm::PoolOptions& options) {
  constexpr int kCalls = 2000;
  edge_vlm::WorkerPool pool(options);
  int wrong = 0;
  for (int call = 0; call < kCalls; call++) {
    std::vector<int> runs(2 + call % 37);
    pool.share(static_cast<int>(runs.size()), INT64_MAX, [&](int, int first, int last) {
      for (int task = first; task < last; task++) runs[task]++;
    });
    for (const int count : runs) wrong += count != 1;
  }
  return wrong;
}

}  // namespace

int main() {
  int wrong = wrong_counts({4, 0, {}}) + wrong_counts({3, 50, {0}});
  wrong += wrong_counts({2, 20, {1023}});  // no such CPU: not pinned
  std::printf("%d wrong\n", wrong);
  return wrong != 0;
}
