#include "request.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <utility>

#include "decode.h"
#include "fault.h"
#include "structs.h"
#include "texture.h"

namespace topos {
namespace {

constexpr uint32_t kMostItems = 1U << 16;
constexpr uint32_t kFlags = TOPOS_REQUEST_MANUAL | TOPOS_REQUEST_NO_RIG | TOPOS_REQUEST_NO_FACE_CHECK;
constexpr int kLowestSide = 16;  // a box of fewer pixels holds no face

int channels_of(topos_pixel_format format) { return format == TOPOS_PIXELS_RGB8 ? 3 : 4; }

PixelFormat format_of(topos_pixel_format format) {
  switch (format) {
    case TOPOS_PIXELS_RGB8:
      return PixelFormat::kRgb;
    case TOPOS_PIXELS_RGBA8:
      return PixelFormat::kRgba;
    case TOPOS_PIXELS_BGRA8:
      return PixelFormat::kBgra;
    default:
      fail(TOPOS_E_ARGUMENT, "topos_image.format", std::to_string(format), "one of TOPOS_PIXELS_*");
  }
}

FaceChoice chosen_face(const topos_request& request) {
  if (request.crop > TOPOS_CROP_BOX) {
    fail(TOPOS_E_ARGUMENT, "crop", std::to_string(request.crop), "one of TOPOS_CROP_*");
  }
  FaceChoice choice;
  choice.face = request.face;
  choice.crop = static_cast<Crop>(request.crop);
  choice.check = (request.flags & TOPOS_REQUEST_NO_FACE_CHECK) == 0;
  if (choice.crop != Crop::kBox) return choice;
  const int32_t* box = request.crop_box;
  if (box[0] < 0 || box[1] < 0 || box[2] < kLowestSide || box[3] < kLowestSide || box[0] > INT32_MAX - box[2] ||
      box[1] > INT32_MAX - box[3]) {
    fail(TOPOS_E_ARGUMENT, "crop_box", std::to_string(box[2]) + " x " + std::to_string(box[3]) + " pixels",
         "x, y >= 0, and width, height >= 16");
  }
  choice.box = {box[0], box[1], box[0] + box[2], box[1] + box[3]};
  return choice;
}

constexpr uint32_t kUsualTexture = 1024;

// Checks what texture a request asks for, and returns its side.
int chosen_texture(const topos_request& request, const ModelData& model) {
  if (request.texture < TOPOS_TEXTURE_NONE || request.texture > TOPOS_TEXTURE_BASE) {
    fail(TOPOS_E_ARGUMENT, "texture", std::to_string(request.texture), "one of TOPOS_TEXTURE_*");
  }
  const uint32_t side = request.texture_size == 0 ? kUsualTexture : request.texture_size;
  if (std::find(std::begin(kTextureSides), std::end(kTextureSides), static_cast<int>(side)) == std::end(kTextureSides)) {
    fail(TOPOS_E_ARGUMENT, "texture_size", std::to_string(request.texture_size), "0, 512, 1024 or 2048");
  }
  if (request.texture > TOPOS_TEXTURE_AUTO && !model.textured()) {
    fail(TOPOS_E_UNSUPPORTED, "a texture", "a model without an atlas", "a pack that has one",
         "make it from a bundle with an atlas, or ask for TOPOS_TEXTURE_AUTO or _NONE");
  }
  if (request.texture == TOPOS_TEXTURE_PROJECTED && request.num_latents > 0) {
    fail(TOPOS_E_ARGUMENT, "texture", "TOPOS_TEXTURE_PROJECTED for latents", "pictures, or TOPOS_TEXTURE_BASE");
  }
  return static_cast<int>(side);
}

Picture decoded_file(const HostVector<uint8_t>& bytes, const Host& host) {
  static constexpr const char* kGot[] = {
      "a picture", "neither a PNG nor a JPEG that this build reads", "a damaged file", "fewer than 16 pixels on a side",
      "more than 64 megapixels", "a picture that is fully transparent", "several frames", "colours of a rare kind"};
  ImageFile file;
  const Decoded decoded = decode_image(bytes.data(), bytes.size(), &file);
  if (decoded != Decoded::kYes) {
    fail(TOPOS_E_IMAGE, "an image file", kGot[static_cast<size_t>(decoded)], "a portrait as PNG or JPEG",
         "decode it in the host, and give its pixels");
  }
  if (file.has_profile) host.log(TOPOS_LOG_WARNING, "the colour profile of an image file was not applied");
  return std::move(file.picture);
}

GivenImage copied(Host& host, const topos_image& image) {
  GivenImage made(host);
  if (image.format == TOPOS_PIXELS_ENCODED) {
    if (image.data == nullptr || image.data_size == 0) fail(TOPOS_E_ARGUMENT, "topos_image.data", "no bytes", "a file");
    if (image.orientation != 0) {
      fail(TOPOS_E_ARGUMENT, "topos_image.orientation", std::to_string(image.orientation), "0: the file says it");
    }
    made.encoded = true;
    const uint8_t* file = static_cast<const uint8_t*>(image.data);
    made.bytes.assign(file, file + image.data_size);
    return made;
  }
  made.format = format_of(image.format);
  const uint64_t pixels = uint64_t{image.width} * image.height;
  if (image.width < static_cast<uint32_t>(kMinSide) || image.height < static_cast<uint32_t>(kMinSide) ||
      pixels > static_cast<uint64_t>(kMaxPixels)) {
    fail(TOPOS_E_IMAGE, "an image", std::to_string(image.width) + " x " + std::to_string(image.height) + " pixels",
         "16 x 16 or more, and at most 64 megapixels");
  }
  if (image.orientation > 8) {
    fail(TOPOS_E_ARGUMENT, "topos_image.orientation", std::to_string(image.orientation), "0 to 8");
  }
  const uint64_t row = uint64_t{image.width} * static_cast<uint64_t>(channels_of(image.format));
  const uint64_t stride =
      image.row_stride == 0 ? row : static_cast<uint64_t>(std::llabs(static_cast<long long>(image.row_stride)));
  if (stride < row) {
    fail(TOPOS_E_ARGUMENT, "topos_image.row_stride", std::to_string(image.row_stride),
         std::to_string(row) + " bytes or more");
  }
  const uint64_t needed = stride * (image.height - 1) + row;
  if (image.data == nullptr || image.data_size < needed) {
    fail(TOPOS_E_ARGUMENT, "topos_image.data", image.data == nullptr ? "NULL" : std::to_string(image.data_size) + " bytes",
         std::to_string(needed));
  }
  made.width = static_cast<int>(image.width);
  made.height = static_cast<int>(image.height);
  made.orientation = image.orientation == 0 ? 1 : static_cast<int>(image.orientation);
  made.bytes.resize(row * image.height);
  const uint8_t* data = static_cast<const uint8_t*>(image.data);
  for (uint64_t y = 0; y < image.height; ++y) {
    // A negative stride: the first row in memory is the last of the picture.
    const uint64_t from = image.row_stride < 0 ? image.height - 1 - y : y;
    std::memcpy(made.bytes.data() + y * row, data + from * stride, row);
  }
  return made;
}

}  // namespace

Picture GivenImage::picture(const Host& host) const {
  if (encoded) return decoded_file(bytes, host);
  RawPixels raw;
  raw.data = bytes.data();
  raw.width = width;
  raw.height = height;
  raw.format = format;
  raw.orientation = orientation;
  Picture picture;
  if (take_picture(raw, &picture) == Taken::kTransparent) {
    fail(TOPOS_E_IMAGE, "an image", "a picture that is fully transparent", "a portrait that can be seen",
         "remove its alpha channel");
  }
  return picture;
}

Request::Request(Host& host, const topos_request& request, const ModelData& model)
    : settings(settled(request, model)), latents(HostAllocator<float>(host)) {
  if ((request.flags & ~kFlags) != 0) {
    fail(TOPOS_E_ARGUMENT, "topos_request.flags", std::to_string(request.flags), "bits of TOPOS_REQUEST_*");
  }
  flags = request.flags;
  preview_every = request.preview_every;
  choice = chosen_face(request);
  texture_side = chosen_texture(request, model);
  texture = model.textured() ? request.texture : topos_texture{TOPOS_TEXTURE_NONE};
  progress = request.progress;
  progress_user = request.progress_user;
  if (request.num_latents > 0) {
    if (request.latents == nullptr || request.num_images > 0 || request.num_latents > kMostItems) {
      fail(TOPOS_E_ARGUMENT, "latents of a request", request.latents == nullptr ? "NULL" : "images too, or too many",
           "1 to 65536 latents, and no image");
    }
    num_latents = static_cast<size_t>(request.num_latents);
    latents.assign(request.latents, request.latents + num_latents * model.latent());
    for (const float number : latents) {
      if (!std::isfinite(number)) fail(TOPOS_E_ARGUMENT, "latents of a request", "NaN or infinite", "finite numbers");
    }
    return;
  }
  if (request.images == nullptr || request.num_images == 0 || request.num_images > kMostItems) {
    fail(TOPOS_E_ARGUMENT, "images of a request", request.images == nullptr ? "NULL" : std::to_string(request.num_images),
         "1 to 65536");
  }
  const uint32_t given = request.seeds == nullptr ? 0 : request.num_seeds;
  if (request.seeds == nullptr && request.num_seeds > 0) {
    fail(TOPOS_E_ARGUMENT, "seeds of a request", "NULL", std::to_string(request.num_seeds) + " seeds");
  }
  if (given > kMostItems || (request.num_images > 1 && given > 1 && given != request.num_images)) {
    fail(TOPOS_E_ARGUMENT, "seeds of a request", std::to_string(given),
         "one for all images, one for each, or any number for one image");
  }
  seeds.assign(request.seeds, request.seeds + given);
  if (seeds.empty()) seeds.push_back(0);
  images.reserve(request.num_images);
  for (uint32_t at = 0; at < request.num_images; ++at) {
    images.push_back(copied(host, taken(item(request.images, at), "topos_image")));
  }
}

}  // namespace topos
