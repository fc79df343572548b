// SPDX-License-Identifier: Apache-2.0
// Huge pages for large tensors, where the system gives them to who asks: rows of thousands of floats else cross a page of 4 kB
// every few hundred values, and a virtual machine looks each of them up twice.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>

namespace edge_vlm {

class HugePages {
 public:
  // Of this memory, best before it is first written; what a huge page would cover beyond it is left alone. Asks once.
  void ask(const void* memory, size_t bytes);

 private:
  std::map<uintptr_t, uintptr_t> asked_;  // begin -> end
};

}  // namespace edge_vlm
