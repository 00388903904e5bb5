// As much of UnrealBuildTool as the plugin's rules use, written by hand, to compile and run them.
using System;
using System.Collections.Generic;

namespace UnrealBuildTool
{
    public struct UnrealTargetPlatform
    {
        public string Name;
        public static readonly UnrealTargetPlatform Win64 = new UnrealTargetPlatform { Name = "Win64" };
        public static readonly UnrealTargetPlatform Linux = new UnrealTargetPlatform { Name = "Linux" };
        public static bool operator ==(UnrealTargetPlatform a, UnrealTargetPlatform b)
        {
            return a.Name == b.Name;
        }
        public static bool operator !=(UnrealTargetPlatform a, UnrealTargetPlatform b) { return !(a == b); }
        public override bool Equals(object other) { return other is UnrealTargetPlatform; }
        public override int GetHashCode() { return 0; }
    }

    public sealed class ReadOnlyTargetRules { public UnrealTargetPlatform Platform; }

    public sealed class RuntimeDependencyList
    {
        public readonly List<string> Paths = new List<string>();
        public void Add(string path) { Paths.Add(path); }
    }

    public class ModuleRules
    {
        public enum PCHUsageMode { UseExplicitOrSharedPCHs }
        public PCHUsageMode PCHUsage;
        public static string Folder;
        public string PluginDirectory { get { return Folder; } }
        public readonly List<string> PublicDependencyModuleNames = new List<string>();
        public readonly List<string> PrivateDependencyModuleNames = new List<string>();
        public readonly List<string> PublicSystemIncludePaths = new List<string>();
        public readonly List<string> PublicAdditionalLibraries = new List<string>();
        public readonly List<string> PublicRuntimeLibraryPaths = new List<string>();
        public readonly List<string> PublicDelayLoadDLLs = new List<string>();
        public readonly RuntimeDependencyList RuntimeDependencies = new RuntimeDependencyList();
        public ModuleRules(ReadOnlyTargetRules target) { }
    }

    /// <summary>Prints the files that the rules name: Rules.exe PLUGIN Linux|Win64</summary>
    static class Rules
    {
        static void Main(string[] words)
        {
            ModuleRules.Folder = words[0];
            var target = new ReadOnlyTargetRules { Platform = new UnrealTargetPlatform { Name = words[1] } };
            var rules = new ToposRt(target);
            rules.PublicSystemIncludePaths.ForEach(Console.WriteLine);
            rules.PublicRuntimeLibraryPaths.ForEach(Console.WriteLine);
            rules.PublicAdditionalLibraries.ForEach(Console.WriteLine);
            rules.RuntimeDependencies.Paths.ForEach(Console.WriteLine);
        }
    }
}
