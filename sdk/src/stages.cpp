// The stages of a job: pictures, what is seen of them, latents, heads. Twin of topos_rt/stages.py.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "fault.h"
#include "head_file.h"
#include "job.h"
#include "noise.h"

namespace topos {

Job::Job(const Ref<Model>& model, const topos_request& request)
    : model_(model), request_(model->host(), request, model->data()), stop_(runtime().ort()) {
  const auto made = [this](const TensorInfo& info) {
    tensors_.push_back(std::make_unique<Tensor>(runtime().ort(), model_->host(), info.shape));
    return tensors_.back().get();
  };
  const Engine &encoder = model->engine(kImageEncoder), &context = model->engine(kDitContext);
  const Engine &modulation = model->engine(kDitModulation), &plain = model->engine(kDitStep),
               &decoder = model->engine(kVaeDecoder);
  pixels_ = made(encoder.input("pixels"));
  tokens_ = made(encoder.output("tokens"));
  estimate_ = model->data().estimates() ? made(encoder.output("estimate")) : nullptr;
  keys_ = made(context.output("keys"));
  values_ = made(context.output("values"));
  time_ = made(modulation.input("time"));
  modulation_ = made(plain.input("modulation"));
  latent_ = made(plain.input("latent"));
  velocity_ = made(plain.output("velocity"));
  decoded_latent_ = made(decoder.input("latent"));
  vertices_ = made(decoder.output("vertices"));

  std::vector<Named> seen = {{"pixels", pixels_}};
  for (const Evidence* evidence : model->data().evidence) {
    evidence_.push_back(made(encoder.input(evidence->name)));
    seen.push_back({evidence->name, evidence_.back()});
  }
  std::vector<Named> step = {{"latent", latent_}, {"modulation", modulation_}, {"keys", keys_}, {"values", values_}};
  const auto bind = [this](Graph graph, const Engine& engine, const std::vector<Named>& inputs,
                           const std::vector<Named>& outputs) { graphs_[graph].emplace(engine, inputs, outputs); };
  std::vector<Named> encoded = {{"tokens", tokens_}};
  if (estimate_ != nullptr) encoded.push_back({"estimate", estimate_});
  bind(kImageEncoder, encoder, seen, encoded);
  bind(kDitModulation, modulation, {{"time", time_}}, {{"modulation", modulation_}});
  bind(kDitContext, context, {{"tokens", tokens_}}, {{"keys", keys_}, {"values", values_}});
  bind(kDitStep, plain, step, {{"velocity", velocity_}});
  bind(kVaeDecoder, decoder, {{"latent", decoded_latent_}}, {{"vertices", vertices_}});
  if (const double guidance = request_.settings.sampler.guidance; guidance > 0) {
    const Engine& guided = model->guided_step();
    Tensor* weight = made(guided.input("guidance"));
    weight->data()[0] = static_cast<float>(guidance);
    difference_ = made(guided.output("difference"));
    step.push_back({"guidance", weight});
    bind(kDitStepGuided, guided, step, {{"velocity", velocity_}, {"difference", difference_}});
  }
  heads_.reserve(items());
  stage_ = request_.num_latents > 0 ? Stage::kDecoder : Stage::kImage;
  shown_stage_ = static_cast<uint32_t>(stage_);
  if (request_.num_latents == 0 && request_.choice.looks()) faces_.emplace(*model_, &stop_);
}

void Job::work() {
  switch (stage_) {
    case Stage::kImage:
      return look();
    case Stage::kFace:
      return show();
    case Stage::kEvidence:
      see();
      return enter(Stage::kEncoder);
    case Stage::kEncoder:
      run_graph(kImageEncoder);
      return enter(Stage::kContext);
    case Stage::kContext:
      run_graph(kDitContext);
      return begin_item();
    case Stage::kStep:
      return evaluate();
    case Stage::kDecoder:
      made_ = request_.num_latents > 0
                  ? decoded(request_.latents.data() + item_ * model_->data().latent(), false)
                  : decoded(latent_of(sampler_->state()).data(), false);
      if (!model_->has_rig() || (request_.flags & TOPOS_REQUEST_NO_RIG) != 0) {
        return after_rig();
      }
      return enter(Stage::kRig);
    case Stage::kRig:
      made_->fit_rig();
      return after_rig();
    case Stage::kFit:
      fit();
      return request_.texture != TOPOS_TEXTURE_NONE ? enter(Stage::kTexture) : finish_item();
    case Stage::kTexture:
      return dress();
    case Stage::kDone:
      return;
  }
}

// Makes the upright picture of this item.
void Job::look() {
  if (item_ == 0) tell();
  looked_at_ = request_.image_of(item_);
  picture_ = request_.images[looked_at_].picture(model_->host());
  if (request_.choice.looks()) return enter(Stage::kFace);
  show();
}

// Looks for the face a little further, where it is wanted, and in the end fills the pixels with what the model sees.
void Job::show() {
  const ModelData& data = model_->data();
  if (faces_) {
    if (!search_) search_.emplace(search_of(picture_, request_.choice, data.canonical));
    if (search_->step(*faces_)) return;
  }
  portrait_ = portrait_of(std::move(picture_), request_.choice, search_ ? search_->take() : std::vector<Face>());
  search_.reset();
  picture_ = Picture();
  const std::string reason = request_.texture == TOPOS_TEXTURE_PROJECTED ? undressable() : "";
  if (!reason.empty()) {
    fail(TOPOS_E_IMAGE, "texture TOPOS_TEXTURE_PROJECTED", reason, "a face that looks to the camera",
         "use another picture, or TOPOS_TEXTURE_AUTO or _BASE");
  }
  const std::vector<float> pixels =
      portrait_.pixels(static_cast<int>(data.size[kImageHeight]), static_cast<int>(data.size[kImageWidth]));
  std::memcpy(pixels_->data(), pixels.data(), pixels_->count() * sizeof(float));
  enter(evidence_.empty() ? Stage::kEncoder : Stage::kEvidence);
}

// Fills the evidence with what is known of the face: zeros where there is none with landmarks.
void Job::see() {
  const ModelData& data = model_->data();
  const bool known = portrait_.face && !portrait_.face->landmarks.empty();
  if (known && data.biometric()) faces_->identity(identity_pixels(on_black(portrait_.picture), *portrait_.face));
  for (size_t at = 0; at < evidence_.size(); ++at) {
    Tensor& tensor = *evidence_[at];
    const std::string_view name = data.evidence[at]->name;
    const auto fill = [&tensor](const auto& numbers) { std::copy(numbers.begin(), numbers.end(), tensor.data()); };
    if (!known) {
      std::fill_n(tensor.data(), tensor.count(), 0.0F);
    } else if (name == "landmarks") {
      fill(evidence_landmarks(*portrait_.face, data.canonical));
    } else if (name == "pose") {
      fill(evidence_pose(*portrait_.face));
    } else if (name == "expression") {
      fill(evidence_expression(*portrait_.face));
    } else if (name == "aligned") {
      fill(identity_pixels(on_black(portrait_.picture), *portrait_.face));
    } else {
      const Tensor& from = name == "identity" ? faces_->embedding() : faces_->features();
      std::copy_n(from.data(), from.count(), tensor.data());
    }
  }
}

// Makes the scaled noise of this item's seed, from which its steps begin.
void Job::begin_item() {
  const ModelData& data = model_->data();
  const Settings& settings = request_.settings;
  float* start = latent_->data();
  noise(request_.seed_of(item_), start, latent_->count());
  if (settings.own_temperature && data.variation.rows > 0) {
    scale_noise(start, latent_->count(), settings.temperature, data.variation.data, data.variation.rows,
                data.number[kOpenTemperature]);
  } else {
    scale_noise(start, latent_->count(), settings.temperature);
  }
  sampler_.emplace(settings.sampler, start, latent_->count());
  shown_step_ = 0;
  enter(Stage::kStep);
}

// Evaluates the network once.
void Job::evaluate() {
  Sampler& sampler = *sampler_;
  const Evaluation wanted = sampler.wanted();
  time_->data()[0] = static_cast<float>(wanted.t);
  run_graph(kDitModulation);
  std::memcpy(latent_->data(), wanted.x, latent_->count() * sizeof(float));
  run_graph(wanted.guided ? kDitStepGuided : kDitStep);
  if (!sampler.give(velocity_->data(), wanted.guided ? difference_->data() : nullptr)) return;
  const auto done = static_cast<uint32_t>(sampler.step().index) + 1;
  shown_step_ = done;
  if (sampler.done()) return enter(Stage::kDecoder);
  tell();
  if (request_.preview_every != 0 && done % request_.preview_every == 0) {
    std::vector<float> estimate(latent_->count());
    clean_estimate(sampler.step(), model_->data().number[kSigmaMin], latent_->count(), estimate.data());
    Ref<Head> made = decoded(latent_of(estimate.data()).data(), true);
    const std::lock_guard<std::mutex> lock(mutex_);
    preview_ = std::move(made);
  }
}

// Returns the latent of a state of the flow: itself, or what it is away from the encoder's estimate.
std::vector<float> Job::latent_of(const float* state) const {
  std::vector<float> latent(state, state + latent_->count());
  if (estimate_ == nullptr) return latent;
  const auto scale = static_cast<float>(model_->data().number[kResidualScale]);
  for (size_t at = 0; at < latent.size(); ++at) latent[at] = estimate_->data()[at] + scale * latent[at];
  return latent;
}

Ref<Head> Job::decoded(const float* latent, bool preview) {
  std::memcpy(decoded_latent_->data(), latent, decoded_latent_->count() * sizeof(float));
  run_graph(kVaeDecoder);
  const float* vertices = vertices_->data();
  size_t bad = 0;
  for (size_t at = 0; at < vertices_->count(); ++at) bad += std::isfinite(vertices[at]) ? 0 : 1;
  if (bad > 0) {
    fail(TOPOS_E_NUMERIC, "the networks made a mesh that is not finite", std::to_string(bad) + " NaN or infinite values",
         "", "try another seed or less guidance");
  }
  Ref<Head> head = Head::make(model_, vertices, latent);
  head->seed = request_.num_latents > 0 ? 0 : request_.seed_of(item_);
  head->preview = preview;
  head->step = preview ? shown_step_.load() : 0;
  if (preview) head->metadata = metadata(*head);
  head->seen.face = portrait_.face;
  head->seen.square = portrait_.square;
  return head;
}

// Whether the head that was made can be fitted to a face.
bool Job::fittable() const {
  return portrait_.face && !portrait_.face->landmarks.empty() && model_->data().landmarks.vertices != nullptr;
}

// Fits camera and expression to the face of the picture.
void Job::fit() {
  const ModelData& data = model_->data();
  const Face& face = *portrait_.face;
  const int size[2] = {portrait_.picture.width, portrait_.picture.height};
  std::array<int, kArkitShapes> ids = data.arkit_shapes;
  if (!made_->has_rig()) ids.fill(-1);
  const HeadFitter fitter(made_->positions(), data.landmarks, made_->has_rig() ? made_->shapes() : Shapes{}, ids);
  Head::Seen& seen = made_->seen;
  const std::string wrong = fitter.fit(face.landmarks.data(), size, 0, face.scores.data(), &seen.fit);
  if (!wrong.empty()) {
    warnings_.push_back("pose and expression could not be fitted: " + wrong);
    return;
  }
  seen.fitted = true;
  seen.weights.assign(made_->has_rig() ? data.rig.shapes : 0, 0.0F);
  for (size_t at = 0; at < fitter.names().size(); ++at) {
    const int shape = ids[fitter.names()[at]];
    if (shape >= 0) seen.weights[static_cast<size_t>(shape)] = static_cast<float>(seen.fit.weights[at]);
  }
  fit_facts_ = "," + fit_facts(seen.fit, fitter.names());
}

std::string Job::metadata(const Head& head) const {
  const ModelData& data = model_->data();
  const std::string texture = head.preview ? "" : texture_facts_;
  if (request_.num_latents > 0) return origin_of(data) + texture + "}";
  const std::string text = about_sampling(data, request_.settings) + "," + portrait_.facts(warnings_);
  const std::string seed = ",\"seed\":" + std::to_string(request_.seed_of(item_));
  return text + seed + (head.preview ? ",\"preview_step\":" + std::to_string(head.step) : fit_facts_) + texture + "}";
}

void Job::finish_item() {
  made_->metadata = metadata(*made_);
  warnings_.clear();
  fit_facts_.clear();
  texture_facts_.clear();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    heads_.push_back(std::move(made_));
    made_ = Ref<Head>();
  }
  if (++item_ == items()) return enter(Stage::kDone);
  if (request_.num_latents > 0) return enter(Stage::kDecoder);
  return request_.image_of(item_) == looked_at_ ? begin_item() : enter(Stage::kImage);
}

}  // namespace topos
