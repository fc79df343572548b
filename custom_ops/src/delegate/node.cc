// SPDX-License-Identifier: Apache-2.0
#include "node.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace edge_vlm {

namespace {

const char* type_name(int type) {
  switch (type) {
    case kTfLiteFloat32: return "float32";
    case kTfLiteInt32: return "int32";
    case kTfLiteUInt8: return "uint8";
    case kTfLiteInt8: return "int8";
    case kTfLiteFloat16: return "float16";
    default: return "another type";
  }
}

std::string shape_text(const int* sizes, int count) {
  std::string text = "(";
  for (int i = 0; i < count; i++)
    text += (i ? ", " : "") + (sizes[i] == kAnySize ? std::string("any") : std::to_string(sizes[i]));
  return text + ")";
}

bool matches(const TfLiteIntArray& dims, std::initializer_list<int> shape) {
  if (dims.size != static_cast<int>(shape.size())) return false;
  for (int i = 0; i < dims.size; i++) {
    const int wanted = shape.begin()[i];
    if (dims.data[i] < 0 || (wanted != kAnySize && wanted != dims.data[i])) return false;
  }
  return true;
}

}  // namespace

Fault::Fault(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  what_ = text;
}

void expect_range(const char* attribute, int64_t value, int64_t lowest, int64_t highest) {
  if (value < lowest || value > highest)
    throw Fault("attribute %s is %lld, allowed %lld..%lld", attribute, static_cast<long long>(value),
                static_cast<long long>(lowest), static_cast<long long>(highest));
}

void Node::expect_inputs(int count) const {
  if (static_cast<int>(inputs_.size()) != count || outputs_.size() != 1)
    throw Fault("%zu inputs and %zu outputs, expected %d and 1", inputs_.size(), outputs_.size(), count);
  for (const int index : inputs_)
    if (index < 0) throw Fault("an input is missing");
}

// Looked up anew each time: adding tensors to a graph moves them.
TfLiteTensor* Node::tensor(int index) const {
  return context_->GetTensor != nullptr ? context_->GetTensor(context_, index) : &context_->tensors[index];
}

const void* Node::input_data(int index) const {
  const TfLiteTensor& tensor = input(index);
  if (tensor.data.raw == nullptr && tensor.bytes > 0) throw Fault("input %d has no data", index);
  return tensor.data.raw;
}

void Node::expect(int index, const char* role, int type, std::initializer_list<int> shape) const {
  const TfLiteTensor& tensor = input(index);
  const std::string wanted = shape_text(shape.begin(), static_cast<int>(shape.size()));
  if (tensor.dims == nullptr) throw Fault("input %d (%s) has no shape, expected %s", index, role, wanted.c_str());
  if (tensor.type == type && matches(*tensor.dims, shape)) return;
  const std::string found = shape_text(tensor.dims->data, tensor.dims->size);
  throw Fault("input %d (%s) is %s %s, expected %s %s", index, role, type_name(tensor.type), found.c_str(),
              type_name(type), wanted.c_str());
}

void Node::expect_constant(int index, const char* role, int type, std::initializer_list<int> shape) const {
  expect(index, role, type, shape);
  int64_t bytes = type == kTfLiteUInt8 || type == kTfLiteInt8 ? 1 : type == kTfLiteFloat16 ? 2 : 4;
  for (const int size : shape) bytes *= size;
  expect_constant_bytes(index, role, type, bytes);
}

void Node::expect_constant_bytes(int index, const char* role, int type, int64_t bytes) const {
  const TfLiteTensor& tensor = input(index);
  if (tensor.type != type)
    throw Fault("input %d (%s) is %s, expected %s", index, role, type_name(tensor.type), type_name(type));
  if (tensor.allocation_type != kTfLiteMmapRo || tensor.data.raw == nullptr)
    throw Fault("input %d (%s) is not a constant", index, role);
  if (static_cast<int64_t>(tensor.bytes) != bytes)
    throw Fault("input %d (%s) holds %zu bytes, expected %lld", index, role, tensor.bytes,
                static_cast<long long>(bytes));
}

float* Node::output_data() const {
  float* data = optional_output_data();
  if (data == nullptr && tensor(outputs_[0])->bytes > 0) throw Fault("the output has no memory");
  return data;
}

float* Node::optional_output_data() const { return tensor(outputs_[0])->data.f; }

const char* Node::output_name() const {
  if (outputs_.empty()) return "?";
  const char* name = tensor(outputs_[0])->name;
  return name == nullptr ? "?" : name;
}

void Node::resize_output(int rows, int width) const {
  TfLiteTensor* output = tensor(outputs_[0]);
  if (output->type != kTfLiteFloat32) throw Fault("the output is %s, expected float32", type_name(output->type));
  int* size = static_cast<int*>(std::malloc(3 * sizeof(int)));  // a TfLiteIntArray, which the runtime frees
  if (size == nullptr) throw Fault("out of memory");
  size[0] = 2;
  size[1] = rows;
  size[2] = width;
  if (context_->ResizeTensor(context_, output, reinterpret_cast<TfLiteIntArray*>(size)) != kTfLiteOk)
    throw Fault("the runtime cannot size the output to (%d, %d)", rows, width);
}

}  // namespace edge_vlm
