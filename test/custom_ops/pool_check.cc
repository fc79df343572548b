// SPDX-License-Identifier: Apache-2.0
// Every task of every call runs exactly once, whichever threads come in time; meant for the thread sanitizer.
#include <cstdio>
#include <vector>

#include "worker_pool.h"

int main() {
  constexpr int kCalls = 3000;
  edge_vlm::WorkerPool pool(4);
  int wrong = 0;
  for (int call = 0; call < kCalls; call++) {
    std::vector<int> runs(2 + call % 37);
    pool.share(static_cast<int>(runs.size()), INT64_MAX, [&](int, int first, int last) {
      for (int task = first; task < last; task++) runs[task]++;
    });
    for (const int count : runs) wrong += count != 1;
  }
  std::printf("%d wrong\n", wrong);
  return wrong != 0;
}
