// SPDX-License-Identifier: Apache-2.0
#include "operator.h"
#include "positions.h"

namespace edge_vlm {
namespace {

constexpr int64_t kStoreCost = 100;  // multiply-adds that take as long as storing one value
constexpr int64_t kFewRowsCost = 4;  // of a multiply-add where few queries share what is read

class AttentionOperator final : public Operator {
 public:
  AttentionOperator(const AttentionAttributes& a, DelegateState& state) : id_(a.cache_id), state_(state) {
    expect_range("cache_format", a.cache_format, 0, 2);
    const auto format = static_cast<CacheFormat>(a.cache_format);
    expect_range("capacity", a.capacity, 1, format == CacheFormat::kInt8 ? kMaxInt8Capacity : kMaxRows);
    expect_range("query_heads", a.query_heads, 1, 1024);
    expect_range("kv_heads", a.kv_heads, 1, a.query_heads);
    expect_range("head_dim", a.head_dim, 1, 1024);
    expect_range("causal", a.causal, 0, 1);
    if (a.query_heads % a.kv_heads != 0)
      throw Fault("%d query heads are not a multiple of %d kv heads", a.query_heads, a.kv_heads);
    if (!(a.rope_theta >= 0)) throw Fault("attribute rope_theta is %g, expected at least 0", a.rope_theta);
    if (a.rope_theta > 0 && a.head_dim % 2 != 0) throw Fault("rotary embedding needs an even head_dim, not %d", a.head_dim);
    shape_ = {a.capacity, a.query_heads, a.kv_heads, a.head_dim, a.causal == 1, a.rope_theta, a.scale, format};
  }

  void prepare(const Node& node) override {
    node.expect_inputs(2);
    const int rows_width = (shape_.query_heads + 2 * shape_.kv_heads) * shape_.head_dim;
    node.expect(0, "qkv", kTfLiteFloat32, {kAnySize, rows_width});
    node.expect(1, "positions", kTfLiteInt32, {node.rows(0)});
    cache_ = &state_.attention_cache(id_, shape_);
    node.resize_output(node.rows(0), shape_.query_heads * shape_.head_dim);
  }

  void eval(const Node& node) override {
    const int rows = node.rows(0);
    const int32_t* positions = node.data<int32_t>(1);
    if (rows == 0) return;
    expect_positions(positions, rows, shape_.capacity);
    if (shape_.causal) expect_continuation(positions, rows);
    const PreparedQueries queries = reserve_queries(rows);
    store({cache_, node.data<float>(0), positions, rows, queries});
    attend({cache_, queries, positions, rows, nullptr, node.output_data()});
  }

 private:
  void expect_continuation(const int32_t* positions, int rows) const {
    if (positions[0] > cache_->end) throw Fault("position %d leaves a gap after the %d cached", positions[0], cache_->end);
    for (int row = 1; row < rows; row++)
      if (positions[row] != positions[row - 1] + 1)
        throw Fault("position %d follows %d, expected consecutive ones", positions[row], positions[row - 1]);
  }

  PreparedQueries reserve_queries(int rows) const {
    const size_t count = static_cast<size_t>(rows) * shape_.query_heads;
    PreparedQueries queries{};
    if (shape_.format == CacheFormat::kInt8)
      queries.codes = state_.reserve_quantized(count, shape_.head_dim, 0);
    else
      queries.values = static_cast<float*>(state_.queries.reserve(sizeof(float) * count * shape_.head_dim));
    return queries;
  }

  void store(const StoreArgs& args) {
    const int heads = shape_.query_heads + 2 * shape_.kv_heads;
    const int64_t cost = static_cast<int64_t>(args.rows) * heads * shape_.head_dim * kStoreCost;
    state_.pool.share(args.rows, cost, [&](int, int first, int last) { state_.kernels.store(args, first, last); });
    cache_->note_written(args.positions, args.rows);
  }

  void attend(const AttendArgs& args) {
    const int64_t width = static_cast<int64_t>(shape_.query_heads) * shape_.head_dim;
    state_.huge_pages.ask(args.y, sizeof(float) * args.rows * width);
    const size_t bytes = round_up(attention_scratch_bytes(*cache_), 64);  // per thread
    char* scratch = static_cast<char*>(state_.scores.reserve(bytes * state_.pool.threads()));
    const int64_t macs = 2 * args.rows * cache_->end * width, cost = args.rows < kManyRows ? kFewRowsCost * macs : macs;
    state_.pool.share(attention_tiles(shape_, args.rows), cost, [&](int worker, int first, int last) {
      AttendArgs own = args;
      own.scratch = scratch + worker * bytes;
      state_.kernels.attend(own, first, last);
    });
  }

  int id_;
  AttentionShape shape_{};
  DelegateState& state_;
  AttentionCache* cache_ = nullptr;
};

}  // namespace

OperatorKind attention_kind() { return operator_kind<AttentionAttributes, AttentionOperator>(); }

}  // namespace edge_vlm
