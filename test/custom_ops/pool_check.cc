// SPDX-License-Identifier: Apache-2.0
// Every task of every call runs exactly once, whichever threads come in time; meant for the thread sanitizer. And when
// threads stop to look out for work.
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

constexpr int64_t kMs = 1'000'000;

int wrong_periods() {
  edge_vlm::Crowding crowding;
  int wrong = 0;
  int64_t now = 1000 * kMs;
  crowding.note(now, kMs, kMs);  // the others' last chunks
  wrong += crowding.at(now + 1);
  crowding.note(now, kMs / 10, 3 * kMs);
  wrong += !crowding.at(now + 19 * kMs) + crowding.at(now + 21 * kMs);
  now += 30 * kMs;
  crowding.note(now, kMs / 10, 3 * kMs);  // soon again: twice as long
  wrong += !crowding.at(now + 39 * kMs) + crowding.at(now + 41 * kMs);
  for (int late = 0; late < 20; late++) crowding.note(now, kMs / 10, 3 * kMs);
  wrong += !crowding.at(now + 990 * kMs) + crowding.at(now + 1001 * kMs);
  now += 10'000 * kMs;
  crowding.note(now, kMs / 10, 3 * kMs);  // after a long quiet time
  wrong += !crowding.at(now + 19 * kMs) + crowding.at(now + 21 * kMs);
  return wrong;
}

}  // namespace

int main() {
  int wrong = wrong_periods();
  wrong += wrong_counts({4, 0, {}}) + wrong_counts({3, 50, {0}});
  wrong += wrong_counts({2, 20, {1023}});  // no such CPU: not pinned
  std::printf("%d wrong\n", wrong);
  return wrong != 0;
}
