// Functions of the border: requests, jobs and heads.
#include <cstddef>
#include <cstring>

#include "handles.h"
#include "structs.h"

using namespace topos;

namespace {

// What the request of an older header has at least.
constexpr size_t kFirstRequest = offsetof(topos_request, texture);

}  // namespace

extern "C" {

topos_status topos_submit(topos_model* model, const topos_request* request, topos_job** out, topos_error* error) {
  return guarded(error, [=] {
    need_out(out, "out of topos_submit");
    Model& of = needed(model, "model");
    hand_out(Job::submit(Ref<Model>(&of), taken(request, "topos_request", kFirstRequest)), out);
    return TOPOS_OK;
  });
}

topos_status topos_job_step(topos_job* job) {
  return guarded(nullptr, [=] { return needed(job, "job").step(); });
}

topos_status topos_job_poll(topos_job* job, topos_progress* out) {
  return guarded(nullptr, [=] { return needed(job, "job").poll(out); });
}

topos_status topos_job_wait(topos_job* job, uint32_t milliseconds) {
  return guarded(nullptr, [=] { return needed(job, "job").wait(milliseconds); });
}

void topos_job_cancel(topos_job* job) {
  if (job != nullptr) object(job)->cancel();
}

topos_status topos_job_get_error(topos_job* job, topos_error* out) {
  return guarded(nullptr, [=] { return needed(job, "job").error(out); });
}

topos_status topos_job_take_head(topos_job* job, uint32_t item, topos_head** out) {
  return guarded(nullptr, [=] {
    need_out(out, "out of topos_job_take_head");
    Ref<Head> head;
    const topos_status status = needed(job, "job").head(item, &head);
    if (head) hand_out(std::move(head), out);
    return status;
  });
}

topos_status topos_job_take_preview(topos_job* job, topos_head** out, uint32_t* step) {
  return guarded(nullptr, [=] {
    need_out(out, "out of topos_job_take_preview");
    Ref<Head> head;
    const topos_status status = needed(job, "job").preview(&head, step);
    if (head) hand_out(std::move(head), out);
    return status;
  });
}

const char* topos_job_timing(topos_job* job, uint32_t index, double* seconds) {
  return job == nullptr ? nullptr : object(job)->timing(index, seconds);
}

void topos_job_release(topos_job* job) {
  if (job != nullptr && object(job)->poll(nullptr) == TOPOS_PENDING) object(job)->cancel();
  release(job);
}

topos_status topos_generate(topos_model* model, const topos_request* request, topos_head** heads, uint32_t num_heads,
                            topos_error* error) {
  return guarded(error, [=]() -> topos_status {
    if (heads == nullptr) fail(TOPOS_E_ARGUMENT, "heads of topos_generate", "NULL", "a place for each head");
    for (uint32_t at = 0; at < num_heads; ++at) heads[at] = nullptr;
    Model& of = needed(model, "model");
    topos_request own = taken(request, "topos_request", kFirstRequest);
    own.flags |= TOPOS_REQUEST_MANUAL;  // it runs on this thread
    const Ref<Job> job = Job::submit(Ref<Model>(&of), own);
    if (job->items() != num_heads) {
      fail(TOPOS_E_ARGUMENT, "num_heads", std::to_string(num_heads), std::to_string(job->items()));
    }
    job->run();
    topos_error told{};
    told.struct_size = sizeof told;
    if (const topos_status status = job->error(&told); status != TOPOS_OK) throw Fault{status, told.message};
    for (uint32_t at = 0; at < num_heads; ++at) {
      Ref<Head> head;
      job->head(at, &head);
      hand_out(std::move(head), &heads[at]);
    }
    return TOPOS_OK;
  });
}

}  // extern "C"
