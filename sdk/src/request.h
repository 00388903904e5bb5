// A request, checked and copied: what a job works on.
#ifndef TOPOS_SDK_REQUEST_H
#define TOPOS_SDK_REQUEST_H

#include <vector>

#include "host.h"
#include "portrait.h"
#include "settings.h"

namespace topos {

// A picture as the host gave it.
struct GivenImage {
  explicit GivenImage(Host& host) : bytes(HostAllocator<uint8_t>(host)) {}

  // The upright picture. Throws a Fault for one that cannot be used.
  Picture picture(const Host& host) const;

  HostVector<uint8_t> bytes;  // rows from the top, close together; or a file
  bool encoded = false;
  int width = 0, height = 0, orientation = 1;
  PixelFormat format = PixelFormat::kRgb;
};

struct Request {
  // Throws a Fault for anything that a job could not be made of.
  Request(Host& host, const topos_request& request, const ModelData& model);

  Settings settings;
  std::vector<GivenImage> images;
  std::vector<uint64_t> seeds;
  HostVector<float> latents;
  size_t num_latents = 0;
  uint32_t flags = 0, preview_every = 0;
  FaceChoice choice;
  topos_texture texture = TOPOS_TEXTURE_NONE;
  int texture_side = 0;
  topos_progress_callback progress = nullptr;
  void* progress_user = nullptr;

  // Heads that are made, and of which image each is.
  size_t items() const { return num_latents > 0 ? num_latents : images.size() == 1 ? seeds.size() : images.size(); }
  size_t image_of(size_t item) const { return images.size() == 1 ? 0 : item; }
  uint64_t seed_of(size_t item) const { return seeds.size() == 1 ? seeds[0] : seeds[item]; }
};

}  // namespace topos

#endif
