// SPDX-License-Identifier: Apache-2.0
// One node of a graph as its operator sees it: checked tensors. Every check throws Fault.
#pragma once
#include <initializer_list>
#include <vector>

#include "fault.h"
#include "tfl_abi.h"

namespace edge_vlm {

constexpr int kAnySize = -1;

class Node {
 public:
  Node(TfLiteContext* context, const std::vector<int>& inputs, const std::vector<int>& outputs)
      : context_(context), inputs_(inputs), outputs_(outputs) {}

  // Number of inputs, and exactly one output.
  void expect_inputs(int count) const;
  // Type and shape of an input; kAnySize matches every size. `role` names it in messages.
  void expect(int index, const char* role, int type, std::initializer_list<int> shape) const;
  // The same for a constant with `bytes` bytes of any shape.
  void expect_constant_bytes(int index, const char* role, int type, int64_t bytes) const;
  void expect_constant(int index, const char* role, int type, std::initializer_list<int> shape) const;

  int rows(int index) const { return input(index).dims->data[0]; }
  template <typename T>
  const T* data(int index) const { return static_cast<const T*>(input_data(index)); }
  float* output_data() const;
  float* optional_output_data() const;  // null where no node reads the output: the runtime then gives it no memory
  void resize_output(int rows, int width) const;
  const char* output_name() const;

 private:
  TfLiteTensor* tensor(int index) const;
  const TfLiteTensor& input(int index) const { return *tensor(inputs_[index]); }
  const void* input_data(int index) const;

  TfLiteContext* context_;
  const std::vector<int>& inputs_;
  const std::vector<int>& outputs_;
};

// Throws unless lowest <= value <= highest.
void expect_range(const char* attribute, int64_t value, int64_t lowest, int64_t highest);

}  // namespace edge_vlm
