#include "CoreMinimal.h"
#include "HAL/PlatformProcess.h"
#include "Interfaces/IPluginManager.h"
#include "Misc/Paths.h"
#include "Modules/ModuleManager.h"

/** Loads topos_rt.dll from the plugin's folder, where Windows would not look; on Linux the linker knows it. */
class FToposRtModule : public IModuleInterface
{
public:
	virtual void StartupModule() override
	{
#if PLATFORM_WINDOWS
		const FString Root = IPluginManager::Get().FindPlugin(TEXT("ToposRt"))->GetBaseDir();
		const FString Path = FPaths::Combine(Root, TEXT("Binaries/ThirdParty/topos_rt/Win64/topos_rt.dll"));
		Library = FPlatformProcess::GetDllHandle(*Path);
		if (Library == nullptr)
		{
			UE_LOG(LogTemp, Error, TEXT("ToposRt: %s cannot be loaded"), *Path);
		}
#endif
	}

	virtual void ShutdownModule() override
	{
		if (Library != nullptr)
		{
			FPlatformProcess::FreeDllHandle(Library);
			Library = nullptr;
		}
	}

private:
	void* Library = nullptr;
};

IMPLEMENT_MODULE(FToposRtModule, ToposRt)
