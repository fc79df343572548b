// SPDX-License-Identifier: Apache-2.0
#include "worker_pool.h"

namespace edge_vlm {

namespace {
constexpr int64_t kWorthSharing = 2'000'000;  // multiply-adds: some 30 us of one thread, a few wake-ups
constexpr int kChunksPerThread = 4;
}

WorkerPool::WorkerPool(int threads) {
  for (int worker = 1; worker < threads; worker++) workers_.emplace_back([this, worker] { work(worker); });
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void WorkerPool::share(int tasks, int64_t macs, const Run& run) {
  if (workers_.empty() || tasks < 2 || macs < kWorthSharing) return run(0, 0, tasks);
  const int chunks = threads() * kChunksPerThread;
  Job job{&run, tasks, (tasks + chunks - 1) / chunks};
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    generation_++;
  }
  wake_.notify_all();
  take_chunks(0, job);
  std::unique_lock<std::mutex> lock(mutex_);
  job_ = nullptr;  // closed: a worker that wakes now finds nothing
  finished_.wait(lock, [this] { return active_ == 0; });
}

void WorkerPool::work(int worker) {
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || (job_ != nullptr && generation_ != seen); });
    if (stop_) return;
    seen = generation_;
    Job& job = *job_;
    active_++;
    lock.unlock();
    take_chunks(worker, job);
    lock.lock();
    if (--active_ == 0) finished_.notify_one();
  }
}

void WorkerPool::take_chunks(int worker, Job& job) {
  for (;;) {
    const int first = job.next.fetch_add(job.chunk, std::memory_order_relaxed);
    if (first >= job.tasks) return;
    (*job.run)(worker, first, first + job.chunk < job.tasks ? first + job.chunk : job.tasks);
  }
}

}  // namespace edge_vlm
