#include "model.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "cpu.h"
#include "fake.h"
#include "fault.h"

namespace topos {
namespace {

// An estimate of what ONNX Runtime takes for a byte of weights, for each engine, and for its environment and runs, where
// nobody measured it.
constexpr uint64_t kPerWeight = 2, kPerEngine = 4U << 20, kEnvironment = 32U << 20;

bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % kPackAlign == 0; }

Pack opened(const PackMemory& memory, const topos_source& source) {
  const Pack pack(memory.data(), memory.size());
  if ((source.flags & TOPOS_SOURCE_VERIFY) != 0) pack.verify();
  return pack;
}

RigData binding_of(const ModelData& data) {
  const PackRig& rig = data.rig;
  RigData made;
  made.vertices = data.vertices();
  made.joints = rig.joints;
  made.shapes = rig.shapes;
  made.shape_index = rig.shape_index.data;
  made.shape_delta = rig.shape_delta.data;
  made.shape_offsets = rig.shape_offsets.data;
  made.head = rig.head.data;
  made.joint_index = rig.joint_index.data;
  made.joint_weight = rig.joint_weight.data;
  made.joint_offsets = rig.joint_offsets.data;
  made.contact_pairs = rig.contact_pairs.data;
  made.contact_offsets = rig.contact_offsets.data;
  made.parts = rig.parts.data;
  return made;
}

std::string shown(const Shape& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + (size < 0 ? "any" : std::to_string(size));
  return text + "]";
}

void require_shape(const Engine& engine, const TensorInfo& info, const Shape& wanted) {
  bool fits = info.shape.size() == wanted.size();
  for (size_t at = 0; fits && at < wanted.size(); ++at) fits = wanted[at] < 0 || info.shape[at] == wanted[at];
  if (!fits) {
    fail(TOPOS_E_PACK, "tensor " + info.name + " of graph " + engine.name(), shown(info.shape), shown(wanted),
         "make the pack again with 'topos-rt pack'");
  }
}

}  // namespace

PackMemory::PackMemory(Host& host, const topos_source& source) : release_{source.release, source.release_user, source.data}, copy_(HostAllocator<uint8_t>(host)) {
  if ((source.path == nullptr) == (source.data == nullptr)) {
    fail(TOPOS_E_ARGUMENT, "topos_source", source.path == nullptr ? "neither path nor data" : "both path and data",
         "one of them");
  }
  uint64_t whole = source.data_size;
  const uint8_t* base = static_cast<const uint8_t*>(source.data);
  if (source.path != nullptr) {
    mapping_ = std::make_unique<Mapping>(source.path);
    base = mapping_->data();
    whole = mapping_->size();
  }
  if (source.offset > whole || source.size > whole - source.offset) {
    fail(TOPOS_E_ARGUMENT, "the pack's place in its file",
         std::to_string(source.size) + " bytes from byte " + std::to_string(source.offset),
         "a place within " + std::to_string(whole) + " bytes");
  }
  data_ = base + source.offset;
  size_ = source.size != 0 ? source.size : whole - source.offset;
  if (!is_aligned(data_)) {
    copy_.assign(data_, data_ + size_);
    data_ = copy_.data();
  }
}

topos_backend backend_of(const Runtime& runtime, topos_backend wanted) {
  const bool fake = runtime.ort() == nullptr;
  if (wanted == TOPOS_BACKEND_AUTO) return fake ? TOPOS_BACKEND_FAKE : TOPOS_BACKEND_CPU;
  if (fake && wanted != TOPOS_BACKEND_FAKE) {
    fail(TOPOS_E_UNAVAILABLE, "topos_load_options.backend", "a runtime without ONNX Runtime", "TOPOS_BACKEND_FAKE",
         "create the runtime without TOPOS_RUNTIME_FAKE");
  }
  return wanted;
}

topos_requirements requirements_of(const Runtime& runtime, const ModelData& data, const PackMemory& memory,
                                   topos_backend backend) {
  topos_requirements needs{};
  needs.struct_size = sizeof needs;
  needs.backend = backend;
  needs.host_mapped = memory.mapped() ? memory.size() : 0;
  uint64_t weights = 0;
  for (uint16_t index = 0; data.pack.has(Kind::kWeights, index); ++index) {
    weights += data.pack.file(Kind::kWeights, index).rows;
  }
  for (uint16_t index = 0; index < kFaceGraphs; ++index) {
    if (data.pack.has(Kind::kFaceGraph, index)) weights += data.face_graph(static_cast<FaceGraph>(index)).graph.size;
  }
  for (int graph = 0; graph < kGraphs; ++graph) weights += data.graph(static_cast<Graph>(graph)).graph.size;
  needs.host_private = weights * kPerWeight + (uint64_t{kGraphs} + kFaceGraphs) * kPerEngine + kEnvironment;
  const uint64_t pixels = 3ULL * data.size[kImageHeight] * data.size[kImageWidth];
  const uint64_t tokens = uint64_t{data.size[kTokens]} * data.size[kTokenChannels];
  needs.host_per_job = 4 * (pixels + 17 * tokens + 20 * data.latent() + 12 * data.vertices());
  needs.estimated = data.memory.rows == 0 || backend != TOPOS_BACKEND_CPU ? 1 : 0;
  if (needs.estimated == 0) {
    const bool cached = runtime.ort() != nullptr && runtime.sessions().cache_dir != nullptr;
    needs.host_private = static_cast<uint64_t>(data.memory[cached ? kPrivateCached : kPrivate]);
    needs.host_per_job = std::max(needs.host_per_job, static_cast<uint64_t>(data.memory[kPerJob]));
  }
  if (!memory.mapped()) needs.host_private += memory.size();
  return needs;
}

Ref<Model> Model::load(const Ref<Runtime>& runtime, const topos_source& source, const topos_load_options& options) {
  return Ref<Model>::adopt(made_in<Model>(runtime->host(), runtime, source, options));
}

Model::Model(const Ref<Runtime>& runtime, const topos_source& source, const topos_load_options& options)
    : runtime_(runtime), memory_(runtime->host(), source), data_(opened(memory_, source)),
      backend_(backend_of(*runtime, options.backend)) {
  const topos_requirements needs = requirements_of(*runtime, data_, memory_, backend_);
  const uint64_t total = needs.host_private + needs.host_per_job;
  if (options.host_budget != 0 && total > options.host_budget) {
    fail(TOPOS_E_MEMORY, "memory of the model", std::to_string(options.host_budget) + " bytes",
         std::to_string(total) + " or more", "raise topos_load_options.host_budget");
  }
  rig_ = data_.rig.joints > 0 && (options.flags & TOPOS_LOAD_NO_RIG) == 0;
  if (rig_ && data_.rig.head.rows > 0) fit_ = std::make_unique<RigFit>(binding_of(data_));
  // In this order: what a step takes is what the two before it give.
  for (const Graph graph : {kImageEncoder, kDitModulation, kDitContext, kDitStep, kVaeDecoder}) {
    engines_[graph] = loaded(graph);
  }
  const int faces = data_.biometric() ? kFaceGraphs : kFaceIdentity;
  for (int graph = 0; graph < faces && (options.flags & TOPOS_LOAD_NO_FACES) == 0; ++graph) {
    face_engines_[static_cast<size_t>(graph)] = loaded(static_cast<FaceGraph>(graph));
  }
  check_faces();
  if (data_.number[kGuidance] > 0) guided_step();
  if ((options.flags & TOPOS_LOAD_WARM_UP) != 0) warm_up();
  trim_heap();  // loading frees several times what it keeps
}

void Model::destroy() {
  const Ref<Runtime> alive = runtime_;
  this->~Model();
  alive->host().give_back(this, sizeof(Model), alignof(Model));
}

std::unique_ptr<Engine> Model::loaded(Graph graph) const {
  if (backend_ == TOPOS_BACKEND_FAKE) return std::make_unique<FakeEngine>(data_, graph);
  const bool half = backend_ == TOPOS_BACKEND_TENSORRT_RTX;
  auto made = std::make_unique<OrtEngine>(runtime_->sessions(), data_.graph(graph, half), backend_);
  check_contract(*made, graph);
  return made;
}

std::unique_ptr<Engine> Model::loaded(FaceGraph graph) const {
  if (backend_ == TOPOS_BACKEND_FAKE) return std::make_unique<FakeEngine>(data_, graph);
  return std::make_unique<OrtEngine>(runtime_->sessions(), data_.face_graph(graph), TOPOS_BACKEND_CPU);
}

const Engine& Model::guided_step() {
  const std::lock_guard<std::mutex> lock(loading_);
  std::unique_ptr<Engine>& held = engines_[kDitStepGuided];
  if (held == nullptr) held = loaded(kDitStepGuided);
  return *held;
}

std::shared_ptr<const TexturePlan> Model::texture_plan(int side) {
  const std::lock_guard<std::mutex> lock(planning_);
  if (plan_ == nullptr || plan_->side != side) plan_ = std::make_shared<const TexturePlan>(data_.atlas, side);
  return plan_;
}

// What topos_rt/model/contracts.py checks.
void Model::check_contract(const Engine& of, Graph graph) const {
  const auto number = [this](Size which) { return static_cast<int64_t>(data_.size[which]); };
  const Shape latent = {1, number(kLatentTokens), number(kLatentChannels)};
  const Shape tokens = {1, number(kTokens), number(kTokenChannels)}, block = {-1, -1, number(kTokens), -1};
  using Contract = std::vector<std::pair<const char*, Shape>>;
  Contract inputs, outputs;
  switch (graph) {
    case kImageEncoder:
      inputs = {{"pixels", {1, 3, number(kImageHeight), number(kImageWidth)}}};
      for (const Evidence* seen : data_.evidence) inputs.push_back({seen->name, seen->shape});
      outputs = {{"tokens", tokens}};
      if (data_.estimates()) outputs.push_back({"estimate", latent});
      break;
    case kDitContext:
      inputs = {{"tokens", tokens}};
      outputs = {{"keys", block}, {"values", block}};
      break;
    case kDitModulation:
      inputs = {{"time", {1}}};
      outputs = {{"modulation", {-1, 6, -1}}};
      break;
    case kDitStep:
    case kDitStepGuided:
      inputs = {{"latent", latent},
                {"modulation", engine(kDitModulation).output("modulation").shape},
                {"keys", engine(kDitContext).output("keys").shape},
                {"values", engine(kDitContext).output("values").shape}};
      outputs = {{"velocity", latent}};
      if (graph == kDitStep) break;
      inputs.push_back({"guidance", {1}});
      outputs.push_back({"difference", latent});
      break;
    case kVaeDecoder:
      inputs = {{"latent", latent}};
      outputs = {{"vertices", {1, number(kVertices), 6}}};
      break;
    default:
      break;
  }
  for (const auto& [name, shape] : inputs) require_shape(of, of.input(name), shape);
  for (const auto& [name, shape] : outputs) require_shape(of, of.output(name), shape);
  const size_t found = of.inputs().size() + of.outputs().size(), wanted = inputs.size() + outputs.size();
  if (found != wanted) {
    fail(TOPOS_E_PACK, "inputs and outputs of graph " + of.name(), std::to_string(found), std::to_string(wanted),
         "make the pack again with 'topos-rt pack'");
  }
}

// What topos_rt/faces/networks.py checks.
void Model::check_faces() const {
  struct Wanted {
    FaceGraph graph;
    bool input;
    const char* name;
    Shape shape;
  };
  const std::vector<Wanted> table = {
      {kFaceDetector, true, "pixels", {1, 192, 192, 3}},   {kFaceDetector, false, "boxes", {1, 2304, 16}},
      {kFaceDetector, false, "scores", {1, 2304, 1}},      {kFaceLandmarks, true, "pixels", {1, 256, 256, 3}},
      {kFaceLandmarks, false, "landmarks", {1, 1, 1, 1434}}, {kFaceLandmarks, false, "face", {1, 1, 1, 1}},
      {kFaceExpression, true, "points", {1, 146, 2}},      {kFaceExpression, false, "scores", {52}},
      {kFaceIdentity, true, "pixels", {1, 150, 150, 3}},   {kFaceIdentity, false, "embedding", {1, 128}},
      {kFaceIdentity, false, "features", {1, 128, 8, 8}},
  };
  for (const Wanted& wanted : table) {
    const Engine* of = face_engine(wanted.graph);
    if (of == nullptr) continue;
    require_shape(*of, wanted.input ? of->input(wanted.name) : of->output(wanted.name), wanted.shape);
  }
}

void Model::warm_up() const {
  std::vector<const Engine*> all;
  const auto add = [&all](const std::unique_ptr<Engine>& of) {
    if (of != nullptr) all.push_back(of.get());
  };
  std::for_each(engines_.begin(), engines_.end(), add);
  std::for_each(face_engines_.begin(), face_engines_.end(), add);
  for (const Engine* of : all) {
    std::vector<std::unique_ptr<Tensor>> held;
    const auto tensors = [this, &held](const std::vector<TensorInfo>& infos) {
      std::vector<Named> named;
      for (const TensorInfo& info : infos) {
        held.push_back(std::make_unique<Tensor>(runtime_->ort(), host(), info.shape));
        named.push_back({info.name.c_str(), held.back().get()});
      }
      return named;
    };
    const std::vector<Named> inputs = tensors(of->inputs()), outputs = tensors(of->outputs());
    Bound(*of, inputs, outputs).run(nullptr);
  }
}

uint64_t Model::draw_ticket() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return next_ticket_++;
}

bool Model::wait_for_turn(uint64_t ticket, const std::atomic<bool>& cancelled) {
  std::unique_lock<std::mutex> lock(mutex_);
  turn_.wait(lock, [&] { return serving_ == ticket || cancelled; });
  if (serving_ == ticket) return true;
  try {
    given_up_.insert(ticket);
    return false;
  } catch (const std::bad_alloc&) {
    turn_.wait(lock, [&] { return serving_ == ticket; });
    return true;
  }
}

void Model::give_up(uint64_t ticket) {
  const std::lock_guard<std::mutex> lock(mutex_);
  given_up_.insert(ticket);
  skip_given_up();
}

void Model::end_turn() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++serving_;
  skip_given_up();
}

void Model::skip_given_up() {
  while (given_up_.erase(serving_) > 0) ++serving_;
  turn_.notify_all();
}

void Model::wake() {
  const std::lock_guard<std::mutex> lock(mutex_);
  turn_.notify_all();
}

}  // namespace topos
