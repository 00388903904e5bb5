#include "portrait_head.h"

#include <godot_cpp/classes/project_settings.hpp>
#include <godot_cpp/core/class_db.hpp>

using namespace godot;

namespace topos_godot {

void PortraitHead::generate(const Ref<Image> &portrait, const String &pack, int64_t seed,
		int64_t preview_every) {
	cancel();
	if (portrait.is_null() || portrait->is_empty()) {
		emit_signal("failed", String("the portrait is empty"));
		return;
	}
	picture = portrait->duplicate();
	if (picture->is_compressed()) {
		picture->decompress();
	}
	picture->clear_mipmaps();
	picture->convert(Image::FORMAT_RGBA8);
	wanted_seed = static_cast<uint64_t>(seed);
	every = static_cast<uint32_t>(preview_every);
	if (!model && !loading.valid()) {
		const String path = ProjectSettings::get_singleton()->globalize_path(pack);
		loading = std::async(std::launch::async, [path] { return load(path); });
	}
}

void PortraitHead::cancel() {
	picture.unref();
	job.reset();
}

bool PortraitHead::is_busy() const {
	return job || picture.is_valid();
}

PortraitHead::Loaded PortraitHead::load(const String &pack) {
	Loaded made;
	TOPOS_STRUCT(topos_error, error);
	TOPOS_STRUCT(topos_source, source);
	TOPOS_STRUCT(topos_load_options, options);
	const CharString path = pack.utf8();
	source.path = path.get_data();
	options.flags = TOPOS_LOAD_WARM_UP;
	topos_runtime *runtime = nullptr;
	topos_model *loaded = nullptr;
	topos_status status = topos_runtime_create(nullptr, &runtime, &error);
	const Runtime owned(runtime); // a model keeps its runtime
	if (status == TOPOS_OK) {
		status = topos_model_load(runtime, &source, &options, &loaded, &error);
	}
	made.model.reset(loaded);
	if (status != TOPOS_OK) {
		made.failure = message(status, error);
	}
	return made;
}

void PortraitHead::_process(double delta) {
	(void)delta;
	const String failure = advance();
	if (!failure.is_empty()) {
		cancel();
		emit_signal("failed", failure);
	}
}

// One frame's worth: none of this waits.
String PortraitHead::advance() {
	if (loading.valid() && loading.wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
		Loaded loaded = loading.get();
		if (!loaded.failure.is_empty()) {
			return loaded.failure;
		}
		const String failure = head.open(loaded.model.get());
		if (!failure.is_empty()) {
			return failure;
		}
		model = std::move(loaded.model);
		Ref<ArrayMesh> empty;
		empty.instantiate();
		set_mesh(empty);
	}
	if (model && picture.is_valid()) {
		return submit();
	}
	if (!job) {
		return String();
	}
	const topos_status status = topos_job_poll(job.get(), nullptr);
	if (status < 0) {
		TOPOS_STRUCT(topos_error, error);
		topos_job_get_error(job.get(), &error);
		return message(status, error);
	}
	const bool done = status == TOPOS_OK;
	topos_head *taken = nullptr;
	uint32_t step = 0;
	if (done) {
		topos_job_take_head(job.get(), 0, &taken);
	} else {
		topos_job_take_preview(job.get(), &taken, &step);
	}
	const Head made(taken);
	if (!made) {
		return String();
	}
	const Ref<ArrayMesh> mesh = get_mesh();
	const String failure = head.show(model.get(), made.get(), done, **mesh);
	if (!failure.is_empty()) {
		return failure;
	}
	if (done) {
		job.reset();
		emit_signal("finished");
	} else {
		emit_signal("preview", static_cast<int64_t>(step));
	}
	return String();
}

String PortraitHead::submit() {
	const PackedByteArray pixels = picture->get_data();
	TOPOS_STRUCT(topos_image, image);
	image.format = TOPOS_PIXELS_RGBA8;
	image.data = pixels.ptr();
	image.data_size = static_cast<uint64_t>(pixels.size());
	image.width = static_cast<uint32_t>(picture->get_width());
	image.height = static_cast<uint32_t>(picture->get_height());
	TOPOS_STRUCT(topos_request, request);
	TOPOS_STRUCT(topos_error, error);
	request.images = &image;
	request.num_images = 1;
	request.seeds = &wanted_seed;
	request.num_seeds = 1;
	request.preview_every = every;
	topos_job *started = nullptr;
	const topos_status status = topos_submit(model.get(), &request, &started, &error);
	job.reset(started);
	picture.unref();
	return status == TOPOS_OK ? String() : message(status, error);
}

void PortraitHead::_bind_methods() {
	ClassDB::bind_method(D_METHOD("generate", "portrait", "pack", "seed", "preview_every"),
			&PortraitHead::generate, DEFVAL(0), DEFVAL(1));
	ClassDB::bind_method(D_METHOD("cancel"), &PortraitHead::cancel);
	ClassDB::bind_method(D_METHOD("is_busy"), &PortraitHead::is_busy);
	ADD_SIGNAL(MethodInfo("preview", PropertyInfo(Variant::INT, "step")));
	ADD_SIGNAL(MethodInfo("finished"));
	ADD_SIGNAL(MethodInfo("failed", PropertyInfo(Variant::STRING, "message")));
}

} // namespace topos_godot
