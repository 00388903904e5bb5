// Where Godot finds the classes: topos_rt.gdextension names topos_rt_library_init.
#include <gdextension_interface.h>

#include <godot_cpp/core/class_db.hpp>
#include <godot_cpp/godot.hpp>

#include "portrait_head.h"

using namespace godot;

namespace {

void initialize(ModuleInitializationLevel level) {
	if (level == MODULE_INITIALIZATION_LEVEL_SCENE) {
		GDREGISTER_CLASS(topos_godot::PortraitHead);
	}
}

void uninitialize(ModuleInitializationLevel level) {
	(void)level;
}

} // namespace

extern "C" GDExtensionBool GDE_EXPORT topos_rt_library_init(
		GDExtensionInterfaceGetProcAddress get_proc_address, const GDExtensionClassLibraryPtr library,
		GDExtensionInitialization *initialization) {
	GDExtensionBinding::InitObject init(get_proc_address, library, initialization);
	init.register_initializer(initialize);
	init.register_terminator(uninitialize);
	init.set_minimum_library_initialization_level(MODULE_INITIALIZATION_LEVEL_SCENE);
	return init.init();
}
