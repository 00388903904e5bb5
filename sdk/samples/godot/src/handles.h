// Handles of the C library that release themselves, in any order.
#pragma once

#include <memory>

#include "topos_rt.h"

namespace topos_godot {

struct Release {
	void operator()(topos_runtime *runtime) const { topos_runtime_release(runtime); }
	void operator()(topos_model *model) const { topos_model_release(model); }
	void operator()(topos_job *job) const { topos_job_release(job); }
	void operator()(topos_head *head) const { topos_head_release(head); }
};

using Runtime = std::unique_ptr<topos_runtime, Release>;
using Model = std::unique_ptr<topos_model, Release>;
using Job = std::unique_ptr<topos_job, Release>;
using Head = std::unique_ptr<topos_head, Release>;

} // namespace topos_godot
