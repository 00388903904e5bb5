#include "head.h"

#include <algorithm>

#include "normals.h"

namespace topos {

Ref<Head> Head::make(const Ref<Model>& model, const float* vertices, const float* latent) {
  Ref<Head> head = Ref<Head>::adopt(made_in<Head>(model->host(), model));
  const ModelData& data = model->data();
  place(vertices, data.vertices(), data.rotation, data.number[kRadius], head->positions_.data(), head->normals_.data());
  head->latent_.assign(latent, latent + data.latent());
  return head;
}

Ref<Head> Head::placed(const Ref<Model>& model, const float* positions, const float* normals) {
  Ref<Head> head = Ref<Head>::adopt(made_in<Head>(model->host(), model));
  const ModelData& data = model->data();
  std::copy_n(positions, head->positions_.size(), head->positions_.data());
  if (normals == nullptr) {
    const std::vector<int32_t>& corners = data.meshes[0].corners;
    vertex_normals(positions, data.vertices(), corners.data(), corners.size() / 3, head->normals_.data());
  } else {
    std::copy_n(normals, head->normals_.size(), head->normals_.data());
  }
  return head;
}

Head::Head(const Ref<Model>& model)
    : model_(model),
      positions_(3 * model->data().vertices(), HostAllocator<float>(model->host())),
      normals_(positions_.size(), HostAllocator<float>(model->host())),
      latent_(HostAllocator<float>(model->host())),
      joints_(HostAllocator<float>(model->host())),
      shape_delta_(HostAllocator<float>(model->host())) {}

void Head::fit_rig() {
  const PackRig& rig = model_->data().rig;
  joints_.assign(rig.joint_positions.data, rig.joint_positions.data + rig.joint_positions.count());
  shape_delta_.assign(rig.shape_delta.data, rig.shape_delta.data + rig.shape_delta.count());
  if (model_->fit() != nullptr) model_->fit()->fit(positions_.data(), joints_.data(), shape_delta_.data());
  rigged_ = true;
}

Shapes Head::shapes() const {
  const PackRig& rig = model_->data().rig;
  return {rig.shapes, rig.shape_index.data, shape_delta_.data(), rig.shape_offsets.data};
}

Skin Head::skin() const {
  const PackRig& rig = model_->data().rig;
  return {rig.joints, rig.parents.data, joints_.data(), rig.skin_joints.data, rig.skin_weights.data};
}

Head::Dress::Dress(Host& host)
    : albedo(HostAllocator<uint8_t>(host)),
      orm(HostAllocator<uint8_t>(host)),
      relief(HostAllocator<uint8_t>(host)),
      confidence(HostAllocator<uint8_t>(host)) {}

void Head::dress(const TextureMaps& maps) {
  Dress made(model_->host());
  made.projected = maps.projected;
  made.turned = maps.turned;
  made.spectacles = maps.spectacles;
  made.side = maps.side;
  made.relief_side = maps.relief_side;
  made.seen = maps.seen;
  made.mirrored = maps.mirrored;
  made.albedo.assign(maps.albedo.begin(), maps.albedo.end());
  made.orm.assign(maps.orm.begin(), maps.orm.end());
  made.relief.assign(maps.relief.begin(), maps.relief.end());
  made.confidence.assign(maps.confidence.begin(), maps.confidence.end());
  texture = std::move(made);
}

void Head::destroy() {
  const Ref<Model> alive = model_;
  this->~Head();
  alive->host().give_back(this, sizeof(Head), alignof(Head));
}

}  // namespace topos
