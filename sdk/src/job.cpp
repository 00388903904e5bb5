#include "job.h"

#include <chrono>
#include <cstring>
#include <string>

#include "fault.h"
#include "structs.h"

namespace topos {

const char* const kStageNames[kStages] = {"image", "face", "evidence", "image_encoder", "dit_context",
                                          "dit_step", "vae_decoder", "rig", "fit", "texture", "done"};

Ref<Job> Job::submit(const Ref<Model>& model, const topos_request& request) {
  model->runtime().check_process();
  Ref<Job> job = Ref<Job>::adopt(made_in<Job>(model->host(), model, request));
  if (!job->manual()) {
    job->ticket_ = model->draw_ticket();
    Ref<Job> kept = job;  // the thread's
    try {
      model->runtime().start(background, kept.get());
    } catch (...) {
      model->give_up(job->ticket_);  // those that come later must not wait for a turn that never ends
      throw;
    }
    kept.leave();
  }
  return job;
}

void Job::background(void* argument) {
  const Ref<Job> job = Ref<Job>::adopt(static_cast<Job*>(argument));
  const bool turn = job->model_->wait_for_turn(job->ticket_, job->cancelled_);
  job->run();  // a cancelled one ends at once
  if (turn) job->model_->end_turn();
}

void Job::run() {
  while (slice()) {
  }
}

bool Job::slice() {
  topos_error error{};
  error.struct_size = sizeof error;
  const topos_status status = guarded(&error, [this] {
    advance();
    return stage_ == Stage::kDone ? TOPOS_OK : TOPOS_PENDING;
  });
  if (status == TOPOS_PENDING) return true;
  // A run that was told to end says so in words of its own.
  if (cancelled_ && status < 0) {
    end(TOPOS_E_CANCELLED, "the job was cancelled");
  } else {
    end(status, error.message);
  }
  return false;
}

void Job::end(topos_status status, const char* message) {
  const std::lock_guard<std::mutex> lock(mutex_);
  error_.struct_size = sizeof error_;
  report(&error_, status, message);
  status_ = status;
  shown_stage_ = static_cast<uint32_t>(Stage::kDone);
  ended_.notify_all();
}

void Job::advance() {
  check_cancelled();
  const Stage stage = stage_;
  const auto start = std::chrono::steady_clock::now();
  work();
  seconds_[static_cast<size_t>(stage)] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Job::check_cancelled() const {
  if (cancelled_) throw Fault{TOPOS_E_CANCELLED, "the job was cancelled"};
}

void Job::enter(Stage stage) {
  stage_ = stage;
  shown_stage_ = static_cast<uint32_t>(stage);
  shown_item_ = static_cast<uint32_t>(std::min(item_, items() - 1));
  if (stage != Stage::kDone) tell();
}

void Job::tell() {
  if (request_.progress == nullptr) return;
  topos_progress progress{};
  progress.struct_size = sizeof progress;
  poll(&progress);
  if (request_.progress(request_.progress_user, &progress) != 0) cancel();
  check_cancelled();
}

topos_status Job::step() {
  if (!manual()) return TOPOS_E_STATE;
  runtime().check_process();
  const std::unique_lock<std::mutex> lock(stepping_, std::try_to_lock);
  if (!lock) return TOPOS_E_STATE;  // another thread is in it
  if (status_ == TOPOS_PENDING) slice();
  return status_;
}

topos_status Job::poll(topos_progress* out) const {
  if (out != nullptr) {
    topos_progress progress{};
    progress.struct_size = sizeof progress;
    progress.step = shown_step_;
    progress.steps = request_.settings.steps();
    progress.item = shown_item_;
    progress.items = static_cast<uint32_t>(items());
    progress.stage = kStageNames[shown_stage_];
    give(out, progress, "topos_progress");
  }
  return status_;
}

topos_status Job::wait(uint32_t milliseconds) {
  if (manual()) return TOPOS_E_STATE;
  std::unique_lock<std::mutex> lock(mutex_);
  const auto over = [this] { return status_ != TOPOS_PENDING; };
  if (milliseconds == UINT32_MAX) {
    ended_.wait(lock, over);
  } else {
    ended_.wait_for(lock, std::chrono::milliseconds(milliseconds), over);
  }
  return status_;
}

void Job::cancel() {
  cancelled_ = true;
  stop_.now();
  model_->wake();
}

topos_status Job::error(topos_error* out) {
  const std::lock_guard<std::mutex> lock(mutex_);
  report(out, status_, status_ == TOPOS_PENDING ? "" : error_.message);
  return status_;
}

topos_status Job::head(uint32_t item, Ref<Head>* out) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (item >= items()) return TOPOS_E_ARGUMENT;
  if (item >= heads_.size()) return status_ == TOPOS_OK ? TOPOS_E_INTERNAL : topos_status{status_};
  *out = heads_[item];
  return TOPOS_OK;
}

topos_status Job::preview(Ref<Head>* out, uint32_t* step) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!preview_) return TOPOS_PENDING;
  *out = std::move(preview_);
  preview_ = Ref<Head>();
  if (step != nullptr) *step = (*out)->step;
  return TOPOS_OK;
}

const char* Job::timing(uint32_t index, double* seconds) {
  if (status_ == TOPOS_PENDING) return nullptr;
  for (size_t stage = 0; stage < kStages; ++stage) {
    if (seconds_[stage] <= 0) continue;
    if (index-- == 0) {
      if (seconds != nullptr) *seconds = seconds_[stage];
      return kStageNames[stage];
    }
  }
  return nullptr;
}

void Job::destroy() {
  const Ref<Model> alive = model_;
  this->~Job();
  alive->host().give_back(this, sizeof(Job), alignof(Job));
}

}  // namespace topos
