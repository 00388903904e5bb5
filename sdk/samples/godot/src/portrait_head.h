// A node that makes a head of a picture while the game goes on.
#pragma once

#include <future>

#include <godot_cpp/classes/image.hpp>
#include <godot_cpp/classes/mesh_instance3d.hpp>

#include "head_mesh.h"

namespace topos_godot {

// Loads a pack on another thread, polls the job once a frame, and shows the head as it forms. Signals:
// preview(step), finished(), failed(message). Blend shapes are those of every MeshInstance3D:
// set("blend_shapes/jawOpen", 1.0).
class PortraitHead : public godot::MeshInstance3D {
	GDCLASS(PortraitHead, godot::MeshInstance3D)

public:
	// pack: a file, such as user://mini.topos. It is loaded once; a head that is on its way is cancelled.
	void generate(const godot::Ref<godot::Image> &portrait, const godot::String &pack, int64_t seed,
			int64_t preview_every);
	void cancel();
	bool is_busy() const;

	void _process(double delta) override;

protected:
	static void _bind_methods();

private:
	struct Loaded {
		Model model;
		godot::String failure;
	};

	static Loaded load(const godot::String &pack);
	godot::String advance();
	godot::String submit();

	std::future<Loaded> loading; // its end waits for the thread
	Model model;
	Job job;
	HeadMesh head;
	godot::Ref<godot::Image> picture; // of the head that is wanted next; null: none
	uint64_t wanted_seed = 0;
	uint32_t every = 0;
};

} // namespace topos_godot
