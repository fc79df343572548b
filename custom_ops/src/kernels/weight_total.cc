// SPDX-License-Identifier: Apache-2.0
#include "weight_total.h"

#include <cstdio>
#include <string>

namespace edge_vlm {

namespace {

// Sysfs gives sizes like "512K".
int64_t cache_bytes_of(int index) {
  const std::string path = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size";
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return 0;
  long long size = 0;
  char unit = 0;
  const int found = std::fscanf(file, "%lld%c", &size, &unit);
  std::fclose(file);
  return found < 1 ? 0 : size * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
}

}  // namespace

int64_t last_level_cache_bytes() {
  int64_t largest = 0;
  for (int index = 0; index < 5; index++) {
    const int64_t bytes = cache_bytes_of(index);
    largest = bytes > largest ? bytes : largest;
  }
  return largest;
}

void WeightTotal::note(const uint8_t* weights, int64_t bytes) {
  if (noted_.emplace(weights, bytes).second) bytes_ += bytes;
}

}  // namespace edge_vlm
