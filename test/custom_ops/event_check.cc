// SPDX-License-Identifier: Apache-2.0
// Counts random packets of every encoding, cut anywhere, in arrays of exactly their size: for the sanitizers and qemu.
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "event_pass.h"

extern "C" int edge_vlm_count_events(edge_vlm::EventPass*, const uint8_t*, int64_t, int32_t*);

using edge_vlm::EventPass;

int main() {
  std::mt19937 random(7);
  int wrong = 0;
  for (int round = 0; round < 6000; round++) {
    const int32_t width = 1 + random() % 90, height = 1 + random() % 60, encoding = round % edge_vlm::kEncodings;
    EventPass before{sizeof(EventPass), encoding, width, height, round % 5 == 0, 1, -1, -1, 0, -1, -1, 0, 1000, 0, 0, 0, 0, 0, 0};
    std::vector<int32_t> counts(width * height);
    for (int packet = 0; packet < 3; packet++) {
      std::vector<uint8_t> data(random() % 400);
      const int small = 1 + random() % 255;  // small numbers lie on the sensor
      for (auto& byte : data) byte = random() % (round % 3 ? small : 256);
      EventPass tallied = before, added = before, taken = before;
      taken.step = -1;
      wrong += edge_vlm_count_events(&tallied, data.data(), data.size(), nullptr) != 0;
      wrong += edge_vlm_count_events(&added, data.data(), data.size(), counts.data()) != 0;
      wrong += std::accumulate(counts.begin(), counts.end(), int64_t{0}) != added.count;
      wrong += edge_vlm_count_events(&taken, data.data(), data.size(), counts.data()) != 0;
      for (const int32_t count : counts) wrong += count != 0;
      wrong += tallied.count != added.count || tallied.outside != added.outside || tallied.y != added.y;
      before = tallied;
      before.count = before.outside = 0;
    }
  }
  std::printf("%d wrong\n", wrong);
  return wrong != 0;
}
