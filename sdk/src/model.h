// A loaded engine pack: its data and its engines. Nothing of it changes once it is loaded, except that the guided
// step is loaded when it is first asked for.
#ifndef TOPOS_SDK_MODEL_H
#define TOPOS_SDK_MODEL_H

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>

#include "engine.h"
#include "mapping.h"
#include "model_data.h"
#include "rig.h"
#include "runtime.h"
#include "texture_plan.h"

namespace topos {

// The bytes of a pack, wherever they are: a mapped file, the caller's memory, or a copy of either that is aligned.
class PackMemory {
 public:
  PackMemory(Host& host, const topos_source& source);
  PackMemory(const PackMemory&) = delete;
  PackMemory& operator=(const PackMemory&) = delete;

  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  bool mapped() const { return mapping_ != nullptr && copy_.empty(); }

 private:
  // Tells the caller that its memory is not used any more, also where a pack in it is refused.
  struct Release {
    topos_memory_release_callback callback;
    void* user;
    const void* data;
    ~Release() {
      if (callback != nullptr && data != nullptr) callback(user, data);
    }
  };

  Release release_;
  std::unique_ptr<Mapping> mapping_;
  HostVector<uint8_t> copy_;
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

// The backend of a model of this runtime. Throws a Fault for one that the runtime is not for.
topos_backend backend_of(const Runtime& runtime, topos_backend wanted);

topos_requirements requirements_of(const Runtime& runtime, const ModelData& data, const PackMemory& memory,
                                   topos_backend backend);

class Model final : public Object {
 public:
  // Throws a Fault.
  static Ref<Model> load(const Ref<Runtime>& runtime, const topos_source& source, const topos_load_options& options);

  Runtime& runtime() const { return *runtime_; }
  Host& host() const { return runtime_->host(); }
  const ModelData& data() const { return data_; }
  topos_backend backend() const { return backend_; }
  // Null for one that was not loaded.
  const Engine* face_engine(FaceGraph which) const { return face_engines_[which].get(); }
  const Engine& engine(Graph which) const { return *engines_[which]; }  // not for kDitStepGuided
  // Loads the guided step where that was not done yet: it holds the weights of the plain one again, which models whose
  // own guidance is zero would hold for nothing. Throws a Fault.
  const Engine& guided_step();
  // The tables of a size of texture, which are made when they are first asked for; those of the last size are kept.
  std::shared_ptr<const TexturePlan> texture_plan(int side);
  bool has_rig() const { return rig_; }
  const RigFit* fit() const { return fit_.get(); }  // null where rigs are not fitted

  // Background jobs run one after another, in the order of their tickets.
  uint64_t draw_ticket();
  // Returns whether it is the ticket's turn; false where it was given up because the job was cancelled before.
  bool wait_for_turn(uint64_t ticket, const std::atomic<bool>& cancelled);
  void give_up(uint64_t ticket);
  void end_turn();
  // Lets those who wait see that they are cancelled.
  void wake();

 private:
  friend Model* made_in<Model>(Host&, const Ref<Runtime>&, const topos_source&, const topos_load_options&);
  Model(const Ref<Runtime>& runtime, const topos_source& source, const topos_load_options& options);
  ~Model() override = default;
  void destroy() override;
  std::unique_ptr<Engine> loaded(Graph graph) const;
  std::unique_ptr<Engine> loaded(FaceGraph graph) const;
  void check_contract(const Engine& of, Graph graph) const;
  void check_faces() const;
  void warm_up() const;
  void skip_given_up();

  Ref<Runtime> runtime_;
  PackMemory memory_;
  ModelData data_;
  topos_backend backend_;
  std::array<std::unique_ptr<Engine>, kGraphs> engines_;
  std::array<std::unique_ptr<Engine>, kFaceGraphs> face_engines_;
  bool rig_ = false;
  std::unique_ptr<const RigFit> fit_;
  std::shared_ptr<const TexturePlan> plan_;
  std::mutex loading_, planning_;
  std::mutex mutex_;
  std::condition_variable turn_;
  uint64_t next_ticket_ = 0, serving_ = 0;
  std::set<uint64_t> given_up_;  // tickets after the one that is served
};

}  // namespace topos

#endif
