// The last stage of a job: the texture of a head. Twin of topos_rt/texture/stage.py.
#include <cmath>

#include "job.h"
#include "normals.h"

namespace topos {

// Why the face of the picture cannot be projected; "" where it can.
std::string Job::undressable() const {
  if (!portrait_.face) return "no face in the picture";
  if (!portrait_.face->hidden()) return "";
  return "a face turned by " + std::to_string(std::lround(std::fabs(portrait_.face->angles.yaw))) + " degrees";
}

void Job::after_rig() {
  if (fittable()) return enter(Stage::kFit);
  return request_.texture != TOPOS_TEXTURE_NONE ? enter(Stage::kTexture) : finish_item();
}

// Makes the tables of the texture's size, or the texture: one slice each.
void Job::dress() {
  if (plan_ == nullptr) {
    plan_ = model_->texture_plan(request_.texture_side);
    return;
  }
  const ModelData& data = model_->data();
  const bool base = request_.texture == TOPOS_TEXTURE_BASE || request_.num_latents > 0;
  std::string reason = base ? "" : undressable();
  if (!base && reason.empty() && !made_->seen.fitted) reason = "a face to which the head could not be fitted";
  TextureMaps maps;
  if (base || !reason.empty()) {
    maps = base_texture(*plan_, data.atlas);
    // Where somebody looked for a face and found none, the portrait's own warning has said so.
    const bool said = base || (!portrait_.face && !portrait_.warnings.empty());
    if (!said) warnings_.push_back("the texture is the base material: " + reason);
  } else {
    const Head::Seen& seen = made_->seen;
    std::vector<float> positions(made_->positions(), made_->positions() + 3 * data.vertices());
    std::vector<float> normals(made_->normals(), made_->normals() + 3 * data.vertices());
    bool moved = false;
    for (const float weight : seen.weights) moved = moved || weight != 0;
    if (moved) {
      const std::vector<double> shown =
          posed(made_->positions(), data.vertices(), made_->shapes(), seen.weights.data(), made_->skin(), nullptr);
      positions.assign(shown.begin(), shown.end());
      const std::vector<int32_t>& corners = data.meshes[0].corners;
      vertex_normals(shown.data(), data.vertices(), corners.data(), corners.size() / 3, normals.data());
    }
    Sitter sitter;
    sitter.positions = positions.data();
    sitter.normals = normals.data();
    sitter.camera = seen.fit.camera;
    sitter.landmark_map = data.landmarks;
    sitter.landmarks = portrait_.face->landmarks.data();
    maps = projected_texture(*plan_, data.atlas, sitter, portrait_.picture, portrait_.face->size(), portrait_.face->angles.yaw);
    warnings_.insert(warnings_.end(), maps.notes.begin(), maps.notes.end());
  }
  made_->dress(maps);
  texture_facts_ = "," + maps.facts();
  finish_item();
}

}  // namespace topos
