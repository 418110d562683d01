using CudaMoE.Description;
using CudaMoE.Tests.Repository;

namespace CudaMoE.Tests.Data;

/// <summary>The shipped census description.</summary>
internal static class Census
{
    /// <summary>Where the description and the starts of its paths are.</summary>
    public static string Folder => Path.Combine(SourceTree.Root, "models");

    /// <summary><c>models/census-mmoe.json</c> with its cache elsewhere.</summary>
    public static ModelDescription Load(string cache)
    {
        ModelDescription description = DescriptionJson.Load(Path.Combine(Folder, "census-mmoe.json"));
        return description with { Data = description.Data! with { Cache = cache } };
    }
}
