using System.IO;
using UnrealBuildTool;

public class ToposRt : ModuleRules
{
	public ToposRt(ReadOnlyTargetRules Target) : base(Target)
	{
		PCHUsage = PCHUsageMode.UseExplicitOrSharedPCHs;
		PublicDependencyModuleNames.AddRange(
			new string[] { "Core", "CoreUObject", "Engine", "ProceduralMeshComponent" });
		PrivateDependencyModuleNames.AddRange(new string[] { "ImageCore", "Projects" });
		PublicSystemIncludePaths.Add(
			Path.Combine(PluginDirectory, "Source", "ThirdParty", "topos_rt", "include"));

		// assemble.cmake puts the libraries there; topos_rt looks for ONNX Runtime beside itself.
		bool bWindows = Target.Platform == UnrealTargetPlatform.Win64;
		string System = bWindows ? "Win64" : "Linux";
		string Folder = Path.Combine(PluginDirectory, "Binaries", "ThirdParty", "topos_rt", System);
		if (bWindows)
		{
			PublicAdditionalLibraries.Add(Path.Combine(Folder, "topos_rt.lib"));
			PublicDelayLoadDLLs.Add("topos_rt.dll"); // the module loads it from its folder
			RuntimeDependencies.Add(Path.Combine(Folder, "topos_rt.dll"));
			RuntimeDependencies.Add(Path.Combine(Folder, "onnxruntime.dll"));
		}
		else
		{
			PublicAdditionalLibraries.Add(Path.Combine(Folder, "libtopos_rt.so"));
			PublicRuntimeLibraryPaths.Add(Folder);
			RuntimeDependencies.Add(Path.Combine(Folder, "libtopos_rt.so.1"));
			RuntimeDependencies.Add(Path.Combine(Folder, "libonnxruntime.so"));
		}
	}
}
