#include "runtime.h"

#include "cpu.h"
#include "fault.h"

namespace topos {

void Object::release() {
  if (--references_ == 0) destroy();
}

Ref<Runtime> Runtime::make(const topos_runtime_options& options) {
  auto host = std::make_unique<Host>(options);
  return Ref<Runtime>::adopt(new Runtime(std::move(host), options));
}

Runtime::Runtime(std::unique_ptr<Host> host, const topos_runtime_options& options)
    : host_(std::move(host)),
      ort_((options.flags & TOPOS_RUNTIME_FAKE) != 0
               ? nullptr
               : std::make_unique<const Ort>(options.ort_api_base, options.ort_library)),
      cache_dir_(options.cache_dir == nullptr ? "" : options.cache_dir),
      rtx_library_(options.rtx_library == nullptr ? "" : options.rtx_library),
      threads_(options.num_threads),
      spins_((options.flags & TOPOS_RUNTIME_SPIN) != 0),
      process_(process_number()) {}

SessionSettings Runtime::sessions() const {
  return {*ort_, *host_, threads_, spins_, cache_dir_.empty() ? nullptr : cache_dir_.c_str(),
          rtx_library_.empty() ? nullptr : rtx_library_.c_str()};
}

void Runtime::destroy() { delete this; }

void Runtime::check_process() const {
  if (process_number() != process_) {
    fail(TOPOS_E_STATE, "this process", "one that was forked after the runtime was made", "the process that made it",
         "create a runtime in the child");
  }
}

void TOPOS_CALL Runtime::enter(void* argument) {
  Thread* thread = static_cast<Thread*>(argument);
  const Ref<Runtime> alive(thread->runtime);
  thread->id = std::this_thread::get_id();
  thread->work(thread->argument);
  thread->done = true;
}

void Runtime::start(void (*work)(void*), void* argument) {
  join(false);
  const std::lock_guard<std::mutex> lock(mutex_);
  Thread& thread = running_.emplace_back();
  thread.runtime = this;
  thread.work = work;
  thread.argument = argument;
  try {
    thread.token = host_->start_thread(enter, &thread, "topos_rt job");
  } catch (...) {
    running_.pop_back();
    throw;
  }
}

void Runtime::join(bool all) {
  std::list<Thread> ended;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto at = running_.begin(); at != running_.end();) {
      const auto next = std::next(at);
      // A callback on a thread of ours may have let go of the last handle: it cannot wait for itself.
      const bool own = at->id.load() == std::this_thread::get_id();
      if (!own && (all || at->done)) ended.splice(ended.end(), running_, at);
      at = next;
    }
  }
  for (Thread& thread : ended) host_->join_thread(thread.token);
}

void Runtime::handle_gone() {
  const Ref<Runtime> alive(this);
  if (--handles_ == 0) join(true);
}

}  // namespace topos
