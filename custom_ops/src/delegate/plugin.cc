// SPDX-License-Identifier: Apache-2.0
// The external delegate: takes our custom operators over, one node at a time, and stands between the runtime's C
// interface and the operators' exceptions. No exception leaves this file.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "operator.h"

#define EDGE_VLM_EXPORT extern "C" __attribute__((visibility("default")))
#ifndef EDGE_VLM_SOURCES
#define EDGE_VLM_SOURCES "unknown"
#endif

namespace edge_vlm {
namespace {

constexpr int kMaxThreads = 64;

const OperatorKind kKinds[] = {linear_kind(),    norm_kind(),          swiglu_kind(),      attention_kind(),
                               embedding_kind(), token_scatter_kind(), token_gather_kind(), sample_kind()};

const OperatorKind* find_kind(const TfLiteRegistration& registration) {
  if (registration.builtin_code != kTfLiteBuiltinCustom || registration.custom_name == nullptr) return nullptr;
  for (const OperatorKind& kind : kKinds)
    if (std::strcmp(kind.name, registration.custom_name) == 0) return &kind;
  return nullptr;
}

struct Delegate {
  Delegate(const Kernels& kernels, const PoolOptions& threads, DenseWeights dense) : state(kernels, threads, dense) {}
  TfLiteDelegate interface{};
  DelegateState state;
};

// The kernel that stands for one replaced node.
struct Kernel {
  const char* name = "";
  std::vector<int> inputs, outputs;
  std::unique_ptr<Operator> implementation;
  std::string fault;  // why there is no implementation
};

template <typename Action>
TfLiteStatus guarded(TfLiteContext* context, const Kernel& kernel, Action action) {
  std::string fault;
  const Node node(context, kernel.inputs, kernel.outputs);
  try {
    if (!kernel.implementation) throw Fault("%s", kernel.fault.c_str());
    action(node);
    return kTfLiteOk;
  } catch (const Fault& found) {
    fault = found.what();
  } catch (const std::exception& other) {
    fault = other.what();
  }
  context->ReportError(context, "%s (output '%s'): %s", kernel.name, node.output_name(), fault.c_str());
  return kTfLiteError;
}

std::vector<int> indices(const TfLiteIntArray* array) { return {array->data, array->data + array->size}; }

void* init_kernel(TfLiteContext* context, const char* buffer, size_t /*length*/) {
  const auto* params = reinterpret_cast<const TfLiteDelegateParams*>(buffer);
  auto* delegate = static_cast<Delegate*>(params->delegate->data);
  auto kernel = std::make_unique<Kernel>();
  TfLiteNode* node = nullptr;
  TfLiteRegistration* registration = nullptr;
  if (context->GetNodeAndRegistration(context, params->nodes_to_replace->data[0], &node, &registration) != kTfLiteOk) {
    kernel->fault = "the runtime does not give the node";
    return kernel.release();
  }
  const OperatorKind* kind = find_kind(*registration);
  kernel->name = kind->name;
  kernel->inputs = indices(node->inputs);
  kernel->outputs = indices(node->outputs);
  try {
    kernel->implementation =
        kind->make(node->custom_initial_data, node->custom_initial_data_size, delegate->state);
  } catch (const Fault& fault) {
    kernel->fault = fault.what();  // prepare_kernel reports it: init cannot
  } catch (const std::exception& error) {
    kernel->fault = error.what();
  }
  return kernel.release();
}

void free_kernel(TfLiteContext* /*context*/, void* kernel) { delete static_cast<Kernel*>(kernel); }

TfLiteStatus prepare_kernel(TfLiteContext* context, TfLiteNode* node) {
  const Kernel& kernel = *static_cast<Kernel*>(node->user_data);
  return guarded(context, kernel, [&](const Node& view) { kernel.implementation->prepare(view); });
}

TfLiteStatus eval_kernel(TfLiteContext* context, TfLiteNode* node) {
  const Kernel& kernel = *static_cast<Kernel*>(node->user_data);
  return guarded(context, kernel, [&](const Node& view) { kernel.implementation->eval(view); });
}

TfLiteRegistration kernel_registration() {
  TfLiteRegistration registration{};
  registration.init = init_kernel;
  registration.free = free_kernel;
  registration.prepare = prepare_kernel;
  registration.invoke = eval_kernel;
  registration.builtin_code = kTfLiteBuiltinDelegate;
  registration.custom_name = "EdgeVlmOps";
  registration.version = 1;
  return registration;
}

// Called once per subgraph. The plan changes while nodes are replaced, so it is read whole first. One node at a time:
// tensors between the nodes of a larger partition would get no memory.
TfLiteStatus take_over(TfLiteContext* context, TfLiteDelegate* delegate) {
  TfLiteIntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) return kTfLiteError;
  std::vector<int> ours;
  for (const int index : indices(plan)) {
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != kTfLiteOk) return kTfLiteError;
    if (find_kind(*registration) != nullptr) ours.push_back(index);
  }
  for (const int index : ours) {
    const TfLiteIntArray one{1, {index}};
    const TfLiteStatus status =
        context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel_registration(), &one, delegate);
    if (status != kTfLiteOk) return status;
  }
  return kTfLiteOk;
}

struct Options {
  std::string isa;
  PoolOptions threads;
  DenseWeights dense = DenseWeights::kAuto;
};

constexpr int kMaxSpinUs = 10'000;  // longer than any gap between the nodes of a graph
constexpr int kMaxCpus = 1024;

int parse_number(const char* option, const char* text, const char** rest, int lowest, int highest) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || (rest == nullptr && *end != '\0')) throw Fault("option %s is '%s', expected a number", option, text);
  if (value < lowest || value > highest)
    throw Fault("option %s is %ld, allowed %d..%d", option, value, lowest, highest);
  if (rest != nullptr) *rest = end;
  return static_cast<int>(value);
}

// "0,2,3"
std::vector<int> parse_cpus(const char* text) {
  std::vector<int> cpus;
  while (*text != '\0') {
    cpus.push_back(parse_number("cpus", text, &text, 0, kMaxCpus - 1));
    if (*text == ',') text++;
    else if (*text != '\0') throw Fault("option cpus ends in '%s', expected numbers with commas between", text);
  }
  return cpus;
}

DenseWeights parse_dense(const char* text) {
  if (std::strcmp(text, "auto") == 0) return DenseWeights::kAuto;
  if (std::strcmp(text, "packed") == 0) return DenseWeights::kPacked;
  if (std::strcmp(text, "unpacked") == 0) return DenseWeights::kUnpacked;
  throw Fault("option dense_weights is '%s', allowed auto, packed, unpacked", text);
}

void set_option(Options& options, const char* key, const char* value) {
  if (std::strcmp(key, "isa") == 0) options.isa = value;
  else if (std::strcmp(key, "threads") == 0) options.threads.threads = parse_number(key, value, nullptr, 1, kMaxThreads);
  else if (std::strcmp(key, "spin_us") == 0) options.threads.spin_us = parse_number(key, value, nullptr, 0, kMaxSpinUs);
  else if (std::strcmp(key, "cpus") == 0) options.threads.cpus = parse_cpus(value);
  else if (std::strcmp(key, "dense_weights") == 0) options.dense = parse_dense(value);
  else throw Fault("unknown option '%s', known are isa, threads, spin_us, cpus, dense_weights", key);
}

// The environment first, so that options of the caller win.
Options parse_options(const char* const* keys, const char* const* values, size_t count) {
  constexpr const char* kVariables[][2] = {{"EDGE_VLM_ISA", "isa"},
                                           {"EDGE_VLM_SPIN_US", "spin_us"},
                                           {"EDGE_VLM_CPUS", "cpus"},
                                           {"EDGE_VLM_DENSE_WEIGHTS", "dense_weights"}};
  Options options;
  for (const auto& [variable, key] : kVariables)
    if (const char* value = std::getenv(variable)) set_option(options, key, value);
  for (size_t i = 0; i < count; i++) set_option(options, keys[i], values[i]);
  return options;
}

// The instruction set that was asked for, or the best one, with a message, where this CPU lacks it.
const Kernels& choose_kernels(const std::string& isa) {
  const Kernels* kernels = select_kernels(isa.empty() ? nullptr : isa.c_str());
  if (kernels != nullptr) return *kernels;
  if (!is_instruction_set(isa.c_str()))
    throw Fault("there is no instruction set '%s', choose from: %s", isa.c_str(), available_isas());
  kernels = select_kernels(nullptr);
  std::fprintf(stderr, "edge_vlm operators: this CPU does not run %s, using %s\n", isa.c_str(), kernels->isa);
  return *kernels;
}

std::unique_ptr<Delegate> make_delegate(const Options& options) {
  auto delegate = std::make_unique<Delegate>(choose_kernels(options.isa), options.threads, options.dense);
  delegate->interface.data = delegate.get();
  delegate->interface.Prepare = take_over;
  delegate->interface.flags = kAllowDynamicTensors;
  return delegate;
}

std::string describe() {
  std::string operators;
  for (const OperatorKind& kind : kKinds)
    operators += (operators.empty() ? "\"" : ", \"") + std::string(kind.name) + "\": {\"version\": " +
                 std::to_string(kind.version) + ", \"size\": " + std::to_string(kind.attribute_bytes) + "}";
  return "{\"sources\": \"" EDGE_VLM_SOURCES "\", \"isas\": \"" + std::string(available_isas()) +
         "\", \"operators\": {" + operators + "}}";
}

}  // namespace
}  // namespace edge_vlm

EDGE_VLM_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values,
                                                              size_t count, void (*report)(const char*)) {
  std::string message;
  try {
    return &edge_vlm::make_delegate(edge_vlm::parse_options(keys, values, count)).release()->interface;
  } catch (const edge_vlm::Fault& fault) {
    message = fault.what();
  } catch (const std::exception& error) {
    message = error.what();
  }
  if (report != nullptr) report(("edge_vlm operators: " + message).c_str());
  return nullptr;
}

// The Python binding calls this with null after a failed create.
EDGE_VLM_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete static_cast<edge_vlm::Delegate*>(delegate->data);
}

// JSON: the hash of the sources, the instruction sets that run here, and each operator's attribute version and size.
EDGE_VLM_EXPORT const char* edge_vlm_ops_info() {
  static const std::string text = edge_vlm::describe();
  return text.c_str();
}
