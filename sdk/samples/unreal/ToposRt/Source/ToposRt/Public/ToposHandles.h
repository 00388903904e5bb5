#pragma once

#include "CoreMinimal.h"
#include "Templates/SharedPointer.h"
#include "Templates/UniquePtr.h"

#include "topos_rt.h"

/** Handles of the C library that release themselves, in any order. */
struct FToposRelease
{
	void operator()(topos_runtime* Runtime) const { topos_runtime_release(Runtime); }
	void operator()(topos_model* Model) const { topos_model_release(Model); }
	void operator()(topos_job* Job) const { topos_job_release(Job); }
	void operator()(topos_head* Head) const { topos_head_release(Head); }
};

using FToposRuntimePtr = TUniquePtr<topos_runtime, FToposRelease>;
using FToposJobPtr = TUniquePtr<topos_job, FToposRelease>;
using FToposHeadPtr = TUniquePtr<topos_head, FToposRelease>;
/** A model is shared by the components and nodes that use it, also on other threads. */
using FToposModelPtr = TSharedPtr<topos_model, ESPMode::ThreadSafe>;

/** What a failed call says: its status and one line. */
inline FString ToposMessage(topos_status Status, const topos_error& Error)
{
	return FString(UTF8_TO_TCHAR(topos_status_name(Status))) + TEXT(" ") + UTF8_TO_TCHAR(Error.message);
}
