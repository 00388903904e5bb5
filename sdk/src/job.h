// A request on its way: its stages, one slice of work at a time.
#ifndef TOPOS_SDK_JOB_H
#define TOPOS_SDK_JOB_H

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "face_engines.h"
#include "head.h"
#include "request.h"
#include "solvers.h"

namespace topos {

enum class Stage { kImage, kFace, kEvidence, kEncoder, kContext, kStep, kDecoder, kRig, kFit, kTexture, kDone };
inline constexpr size_t kStages = static_cast<size_t>(Stage::kDone) + 1;
extern const char* const kStageNames[kStages];

class Job final : public Object {
 public:
  static Ref<Job> submit(const Ref<Model>& model, const topos_request& request);

  // One slice of work of a manual job: the status after it.
  topos_status step();
  topos_status poll(topos_progress* out) const;
  topos_status wait(uint32_t milliseconds);
  void cancel();
  topos_status error(topos_error* out);

  topos_status head(uint32_t item, Ref<Head>* out);
  topos_status preview(Ref<Head>* out, uint32_t* step);
  // The name of a stage that took time, and its seconds; NULL past the end.
  const char* timing(uint32_t index, double* seconds);

  Runtime& runtime() const { return model_->runtime(); }
  bool manual() const { return (request_.flags & TOPOS_REQUEST_MANUAL) != 0; }
  size_t items() const { return request_.items(); }
  // Does all of it on this thread.
  void run();

 private:
  friend Job* made_in<Job>(Host&, const Ref<Model>&, const topos_request&);
  Job(const Ref<Model>& model, const topos_request& request);
  ~Job() override = default;
  void destroy() override;
  static void background(void* job);

  void advance();  // one slice; throws a Fault
  bool slice();    // one slice with its errors; whether more is left
  void work();     // of the present stage
  void begin_item();
  void look();
  void show();
  void see();
  bool fittable() const;
  void fit();
  void after_rig();
  void dress();
  std::string undressable() const;
  void evaluate();
  std::vector<float> latent_of(const float* state) const;
  Ref<Head> decoded(const float* latent, bool preview);
  void finish_item();
  std::string metadata(const Head& head) const;
  void enter(Stage stage);
  void tell();  // the progress callback
  void end(topos_status status, const char* message);
  void check_cancelled() const;
  void run_graph(Graph graph) { graphs_[graph]->run(&stop_); }

  Ref<Model> model_;
  Request request_;
  Stop stop_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  Tensor *pixels_, *tokens_, *estimate_, *keys_, *values_, *time_, *modulation_, *latent_, *velocity_,
      *difference_ = nullptr, *decoded_latent_, *vertices_;
  std::vector<Tensor*> evidence_;
  std::array<std::optional<Bound>, kGraphs> graphs_;
  std::optional<Sampler> sampler_;
  Stage stage_ = Stage::kImage;
  size_t item_ = 0, looked_at_ = SIZE_MAX;
  std::optional<FaceEngines> faces_;
  std::optional<FaceSearch> search_;  // while it lasts
  Picture picture_;  // upright; moved into the portrait once a face was looked for
  Portrait portrait_;
  std::vector<std::string> warnings_;  // of this item
  std::string fit_facts_, texture_facts_;
  std::shared_ptr<const TexturePlan> plan_;
  std::array<double, kStages> seconds_{};

  std::atomic<uint32_t> shown_step_{0}, shown_item_{0}, shown_stage_{0};
  std::atomic<bool> cancelled_{false};
  std::atomic<topos_status> status_{TOPOS_PENDING};
  std::mutex mutex_;
  std::condition_variable ended_;
  topos_error error_{};
  std::vector<Ref<Head>> heads_;
  Ref<Head> preview_, made_;  // made_: whose rig is still to be fitted
  std::mutex stepping_;
  uint64_t ticket_ = 0;
};

}  // namespace topos

#endif
