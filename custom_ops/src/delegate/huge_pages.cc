// SPDX-License-Identifier: Apache-2.0
#include "huge_pages.h"

#include <sys/mman.h>

namespace edge_vlm {

namespace {
constexpr uintptr_t kHugePage = 2 << 20;
constexpr size_t kMostRanges = 256;  // a runtime may move its memory
}  // namespace

void HugePages::ask(const void* memory, size_t bytes) {
  if (bytes < kHugePage) return;
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (address + kHugePage - 1) & ~(kHugePage - 1), end = (address + bytes) & ~(kHugePage - 1);
  if (begin >= end) return;
  const auto found = asked_.find(begin);
  if (found != asked_.end() && found->second >= end) return;
  if (asked_.size() >= kMostRanges) asked_.clear();
  asked_[begin] = end;
#ifdef MADV_HUGEPAGE
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // advice: a system that refuses computes as before
#endif
}

}  // namespace edge_vlm
