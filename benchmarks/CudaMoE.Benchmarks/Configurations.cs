namespace CudaMoE.Benchmarks;

/// <summary>Finds the reference configurations from wherever the benchmark process runs.</summary>
internal static class Configurations
{
    /// <summary>Full path of a file in benchmarks/configs.</summary>
    public static string Find(string name)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder != null; folder = folder.Parent)
        {
            string path = Path.Combine(folder.FullName, "benchmarks", "configs", name);
            if (File.Exists(path))
                return path;
        }

        throw new FileNotFoundException($"benchmarks/configs/{name} is not above {AppContext.BaseDirectory}");
    }
}
