#include "head.h"

#include "normals.h"

namespace topos {

Ref<Head> Head::make(const Ref<Model>& model, const float* vertices, const float* latent) {
  return Ref<Head>::adopt(made_in<Head>(model->host(), model, vertices, latent));
}

Head::Head(const Ref<Model>& model, const float* vertices, const float* latent)
    : model_(model),
      positions_(3 * model->data().vertices(), HostAllocator<float>(model->host())),
      normals_(positions_.size(), HostAllocator<float>(model->host())),
      latent_(latent, latent + model->data().latent(), HostAllocator<float>(model->host())) {
  const ModelData& data = model->data();
  place(vertices, data.vertices(), data.rotation, data.number[kRadius], positions_.data(), normals_.data());
}

void Head::destroy() {
  const Ref<Model> alive = model_;
  this->~Head();
  alive->host().give_back(this, sizeof(Head), alignof(Head));
}

}  // namespace topos
