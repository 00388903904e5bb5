// A finished head, or a preview. Nothing of it changes once it is made.
#ifndef TOPOS_SDK_HEAD_H
#define TOPOS_SDK_HEAD_H

#include <optional>
#include <string>

#include "face.h"
#include "model.h"
#include "morphs.h"
#include "texture.h"

namespace topos {

class Head final : public Object {
 public:
  // vertices: [V][6], as the decoder makes them; latent: [N*D].
  static Ref<Head> make(const Ref<Model>& model, const float* vertices, const float* latent);
  // positions: [V][3], metres, and normals, or null; a head without a latent.
  static Ref<Head> placed(const Ref<Model>& model, const float* positions, const float* normals);

  const Model& model() const { return *model_; }
  const float* positions() const { return positions_.data(); }  // [V][3], metres, +Y up, facing +Z
  const float* normals() const { return normals_.data(); }      // [V][3]
  const float* latent() const { return latent_.data(); }        // [N*D]
  bool has_latent() const { return !latent_.empty(); }

  // The rig of this head; before anybody else has it.
  void fit_rig();
  bool has_rig() const { return rigged_; }
  const float* joints() const { return joints_.data(); }       // [J][3], metres
  Shapes shapes() const;                                       // fitted
  Skin skin() const;

  // The face of the picture that this head was made of, and how the head was fitted to it.
  struct Seen {
    std::optional<Face> face;
    Square square;
    bool fitted = false;
    HeadFit fit;
    std::vector<float> weights;  // of the model's shapes
  };
  Seen seen;

  // The texture; before anybody else has the head.
  void dress(const TextureMaps& maps);
  struct Dress {
    explicit Dress(Host& host);

    bool projected = false, turned = false, spectacles = false;
    int side = 0, relief_side = 0;
    double seen = 0, mirrored = 0;
    HostVector<uint8_t> albedo, orm, relief, confidence;
  };
  std::optional<Dress> texture;

  uint64_t seed = 0;
  bool preview = false;
  uint32_t step = 0;  // after which a preview was made
  std::string metadata = "{}";  // JSON

 private:
  friend Head* made_in<Head>(Host&, const Ref<Model>&);
  explicit Head(const Ref<Model>& model);
  ~Head() override = default;
  void destroy() override;

  Ref<Model> model_;
  HostVector<float> positions_, normals_, latent_, joints_, shape_delta_;
  bool rigged_ = false;
};

}  // namespace topos

#endif
